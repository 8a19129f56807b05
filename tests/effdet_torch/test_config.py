"""Model names, custom configurations, and what is wrong with those that are refused."""

import dataclasses
import json
from pathlib import Path

import pytest

from effconv.effdet_torch.architecture import blocks, cell_nodes, reductions
from effconv.effdet_torch.config import (
    OFFICIAL_NAMES,
    VARIANTS,
    ConfigError,
    Stage,
    config_from_dict,
    config_to_dict,
    get_config,
    read_config,
)


@pytest.mark.parametrize(
    "alias", ["b1", "d1", "D1", "efficientdet-d1", "efficientdet_d1", "EfficientDet-D1", " d1 ", "efficientdet-b1"]
)
def test_aliases_name_one_model(alias: str) -> None:
    assert get_config(alias) is VARIANTS["efficientdet-d1"]


def test_all_official_models_are_there() -> None:
    assert len(OFFICIAL_NAMES) == 15
    assert get_config("d2-640").image_size == (640, 640)
    assert get_config("d5_advprop").unit_range
    assert [name for name, config in VARIANTS.items() if config.unit_range] == [
        f"efficientdet-d{n}-advprop" for n in range(6)
    ]


@pytest.mark.parametrize(
    ("wrong", "meant"), [("d9", "d"), ("lite9", "lite"), ("d1x", "d1"), ("efficientdet-d7-x", "d7x")]
)
def test_unknown_name_suggests_the_nearest(wrong: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown model '{wrong}': did you mean {meant}"):
        get_config(wrong)


def test_name_like_nothing_has_no_suggestion() -> None:
    with pytest.raises(ConfigError, match="unknown model 'retinanet': `effconv models` lists them"):
        get_config("retinanet")


@pytest.mark.parametrize("model", VARIANTS)
def test_config_survives_json(model: str) -> None:
    config = VARIANTS[model]
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config))), "test") == config


BROKEN = {
    "unknown fields": {"colour": "red"},
    "fpn_channels must be int in 1..4096, found 0": {"fpn_channels": 0},
    "fpn_channels must be int in 1..4096, found 10000000000": {"fpn_channels": 10**10},
    "num_classes must be int in 1..100000, found 100001": {"num_classes": 100_001},
    "fpn_cells must be int in 1..64, found True": {"fpn_cells": True},
    "activation must be one of": {"activation": "gelu"},
    "fusion must be one of": {"fusion": "attn"},
    "unit_range must be one of": {"unit_range": "yes"},
    "image_size must hold 2 numbers": {"image_size": 512},
    "mean must hold 3 numbers": {"mean": [1.0, 2.0]},
    "width must be float in": {"width": float("nan")},
    "max_level must be int in 3..12": {"max_level": 2},
    "stages: stride must be int in 1..2, found 3": {"stages": [[1, 3, 3, 1, 8, 8]]},
    "stages must hold 1 to 64 rows": {"stages": []},
    "takes from 7 to 7|takes 7 positional|missing 1 required": {"stages": [[1, 3, 1, 1, 8]]},
    "backbone must be a short name": {"backbone": "../x"},
    "aspect_ratios must be a list": {"aspect_ratios": []},
}


@pytest.mark.parametrize("message", BROKEN)
def test_broken_configuration_is_named(message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(config_to_dict(VARIANTS["efficientdet-d0"]) | BROKEN[message]))
    with pytest.raises(ConfigError, match=message) as caught:
        get_config(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '"d0"', "\x00", "[" * 100_000])
def test_configuration_that_is_no_json_object(text: str, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"model.json"):
        read_config(path)


def test_missing_fields_are_all_listed() -> None:
    with pytest.raises(ConfigError, match=r"lacks \['backbone', 'depth', .*'width'\]"):
        config_from_dict({"name": "x"}, "test")


def test_stages_must_halve_the_image_five_times() -> None:
    config = dataclasses.replace(VARIANTS["efficientdet-d0"], stages=(Stage(1, 3, 2, 1, 8, 8),))
    with pytest.raises(ConfigError, match="1 reduction levels, expected 5"):
        reductions(config)


# Table 1 of the EfficientDet paper, and for D7x and Lite `hparams_config.py` of google/automl:
# input size, BiFPN channels, BiFPN cells, convolutions of each head before the last.
PUBLISHED = {
    "d0": (512, 64, 3, 3),
    "d1": (640, 88, 4, 3),
    "d2": (768, 112, 5, 3),
    "d3": (896, 160, 6, 4),
    "d4": (1024, 224, 7, 4),
    "d5": (1280, 288, 7, 4),
    "d6": (1280, 384, 8, 5),
    "d7": (1536, 384, 8, 5),
    "d7x": (1536, 384, 8, 5),
    "lite0": (320, 64, 3, 3),
    "lite1": (384, 88, 4, 3),
    "lite2": (448, 112, 5, 3),
    "lite3": (512, 160, 6, 4),
    "lite3x": (640, 200, 6, 4),
    "lite4": (640, 224, 7, 4),
}


def test_sizes_are_the_published_ones() -> None:
    configs = {name: get_config(name) for name in PUBLISHED}
    assert {each.name for each in configs.values()} == set(OFFICIAL_NAMES)
    assert {
        name: (each.image_size[0], each.fpn_channels, each.fpn_cells, each.head_repeats)
        for name, each in configs.items()
    } == PUBLISHED


def test_pixels_are_normalised_as_published() -> None:
    # ImageNet's mean and standard deviation of RGB on the 0..255 scale.
    assert get_config("d0").mean == pytest.approx((123.675, 116.28, 103.53))
    assert get_config("d0").std == pytest.approx((58.395, 57.12, 57.375))
    assert (get_config("lite0").mean, get_config("lite0").std) == ((127.0,) * 3, (128.0,) * 3)


def test_blocks_of_b0_are_the_papers() -> None:
    # Table 1 of the EfficientNet paper: layers, kernel, channels of every stage; each begins with the last one's.
    stages = get_config("d0").stages
    rows = [(stage.repeats, stage.kernel, stage.output_filters) for stage in stages]
    assert rows == [(1, 3, 16), (2, 3, 24), (2, 5, 40), (3, 3, 80), (3, 5, 112), (4, 5, 192), (1, 3, 320)]
    assert [stage.input_filters for stage in stages] == [32, *(stage.output_filters for stage in stages[:-1])]
    assert [stage.expand_ratio for stage in stages] == [1, 6, 6, 6, 6, 6, 6]
    assert [stage.stride for stage in stages] == [1, 2, 2, 2, 1, 2, 1]


def test_published_block_counts() -> None:
    # EfficientNet B0 has 16 blocks, B7 has 55; Lite0 has 16 and Lite4 30 (its ends are not repeated).
    counts = {name: len(blocks(get_config(name))) for name in ("d0", "d7x", "lite0", "lite4")}
    assert counts == {"d0": 16, "d7x": 55, "lite0": 16, "lite4": 30}


def test_bifpn_nodes_are_the_papers() -> None:
    # Figure 2d of the paper, levels 3 to 7: features 0..4 are the inputs, 5.. the nodes in order.
    nodes = [(node.level, node.inputs) for node in cell_nodes(get_config("d0"), 1)]
    assert nodes == [
        (6, (3, 4)),
        (5, (2, 5)),
        (4, (1, 6)),
        (3, (0, 7)),
        (4, (1, 7, 8)),
        (5, (2, 6, 9)),
        (6, (3, 5, 10)),
        (7, (4, 11)),
    ]
