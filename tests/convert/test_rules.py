"""The rule table: against the official code's own lists of variables, against our model, and as reviewed text."""

import functools
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from effconv.convert.layout import Layout
from effconv.convert.rules import as_text, rules
from effconv.effdet_torch.config import OFFICIAL_NAMES, VARIANTS, get_config
from effconv.effdet_torch.model import EfficientDet

# Trainable parameters as asserted by the official code's own tests (efficientdet_arch_test.py); d7x, which it does not
# test, as counted in its graph.
PARAMETERS = {
    "efficientdet-d0": 3880067,
    "efficientdet-d1": 6625898,
    "efficientdet-d2": 8097039,
    "efficientdet-d3": 12032296,
    "efficientdet-d4": 20723675,
    "efficientdet-d5": 33653315,
    "efficientdet-d6": 51871782,
    "efficientdet-d7": 51871782,
    "efficientdet-d7x": 77147166,
    "efficientdet-lite0": 3243470,
    "efficientdet-lite1": 4248318,
    "efficientdet-lite2": 5252334,
    "efficientdet-lite3": 8350862,
    "efficientdet-lite3x": 9280862,
    "efficientdet-lite4": 15130894,
}


def official_lists(shared: Path, model: str) -> dict:
    with gzip.open(shared / "goldens" / "variables" / f"variables_{model}.json.gz") as file:
        return json.load(file)


@functools.cache
def meta_model(model: str) -> EfficientDet:
    """The model without any data."""
    with torch.device("meta"):
        return EfficientDet(model)


def shapes(rows: list[dict], key: str) -> dict[str, tuple[int, ...]]:
    return {row[key]: tuple(row["shape"]) for row in rows}


@pytest.mark.shared
@pytest.mark.parametrize("model", [*OFFICIAL_NAMES, "tiny-swish", "tiny-sum8", "tiny-lite"])
def test_names_and_shapes_are_the_official_ones_in_all_three_containers(
    model: str, shared: Path, repository: Path
) -> None:
    config = get_config(model if model in VARIANTS else str(repository / "tests" / "golden" / model / "config.json"))
    table, official = rules(config), official_lists(shared, model)
    objects = shapes(official["keras_ckpt"], "name")
    del objects["_CHECKPOINTABLE_OBJECT_GRAPH"]
    assert {rule.tf: rule.shape for rule in table} == shapes(official["tf1"], "name")
    assert {rule.object_key: rule.shape for rule in table} == objects
    assert {rule.h5_path: rule.shape for rule in table} == shapes(official["h5"], "path")


@pytest.mark.shared
@pytest.mark.parametrize("model", OFFICIAL_NAMES)
def test_config_is_the_official_one(model: str, shared: Path) -> None:
    config, official = VARIANTS[model], official_lists(shared, model)["config"]
    size = official_lists(shared, model)["image_size_hw"]
    mean, std = (
        value if isinstance(value, list) else [value] * 3 for value in (official["mean_rgb"], official["stddev_rgb"])
    )
    found = {
        "act_type": config.activation,
        "anchor_scale": config.anchor_scale,
        "aspect_ratios": list(config.aspect_ratios),
        "backbone_name": config.backbone,
        "box_class_repeats": config.head_repeats,
        "fpn_cell_repeats": config.fpn_cells,
        "fpn_num_filters": config.fpn_channels,
        "max_level": config.max_level,
        "min_level": config.min_level,
        "num_classes": config.num_classes,
        "num_scales": config.num_scales,
        "scale_range": config.unit_range,
    }
    assert found == {name: official[name] for name in found}
    assert (official["fpn_weight_method"] or "fastattn") == config.fusion
    assert (list(config.image_size), list(config.mean), list(config.std)) == (size, mean, std)


@pytest.mark.parametrize("model", VARIANTS)
def test_rules_and_model_agree_on_every_parameter_in_order(model: str) -> None:
    network = meta_model(model)
    expected = [(key, tuple(value.shape)) for key, value in network.state_dict().items()]
    assert [(rule.torch, rule.layout.torch_shape(rule.shape)) for rule in rules(network.config)] == expected


@pytest.mark.parametrize("model", PARAMETERS)
def test_trainable_parameters_are_counted_as_the_official_tests_do(model: str) -> None:
    network = meta_model(model)
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[model]


@pytest.mark.parametrize("model", VARIANTS)
def test_no_name_stands_twice(model: str) -> None:
    table = rules(VARIANTS[model])
    for names in ([r.tf for r in table], [r.object_path for r in table], [r.torch for r in table]):
        assert len(names) == len(set(names))


@pytest.mark.parametrize("model", OFFICIAL_NAMES)
def test_expanded_table_is_the_reviewed_one(model: str, repository: Path) -> None:
    golden = repository / "tests" / "golden" / "rules" / f"{model}.txt"
    assert as_text(rules(VARIANTS[model])) == golden.read_text(), (
        f"`python tools/write_rule_tables.py` rewrites {golden.name}; review it"
    )


@pytest.mark.parametrize("layout", Layout)
def test_layouts_are_invertible_and_move_the_named_axes(layout: Layout) -> None:
    array = np.arange(3 * 4 * 5 * 6).reshape(3, 4, 5, 6)  # H, W, I or C, O or M
    moved = layout.to_torch(array)
    assert moved.shape == layout.torch_shape(array.shape)
    assert np.array_equal(layout.to_tensorflow(moved), array)
    place = {"as_is": (1, 2, 3, 4), "hwio_to_oihw": (4, 3, 1, 2), "hwcm_to_cmhw": (3, 4, 1, 2)}[layout.value]
    assert moved[place] == array[1, 2, 3, 4]
