"""Other ports' names of our tensors: against the ports' own classes, and from each naming to each other."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effconv.convert.layout import Array
from effconv.convert.namings.naming import Naming, places
from effconv.convert.namings.recognition import NAMINGS, fits, recognise
from effconv.convert.namings.tensors import digest, expected, from_port, to_port
from effconv.convert.rules import rules
from effconv.effdet_torch.config import OFFICIAL_NAMES, VARIANTS, Config, get_config
from effconv.errors import CheckpointError
from scripts import load_script

RECORD = json.loads((Path(__file__).parents[3] / "results" / "measured" / "ports.json").read_text())
PORTS = {naming.port: naming for naming in NAMINGS.values()}


def state_of(config: Config) -> dict[str, Array]:
    """Small whole numbers, which no arithmetic of a naming rounds; every tensor another."""
    shapes = {rule.torch: rule.layout.torch_shape(rule.shape) for rule in rules(config)}
    return {key: np.full(shape, number % 4093, np.float32) for number, (key, shape) in enumerate(shapes.items())}


@pytest.mark.parametrize("row", RECORD["rows"], ids=lambda row: f"{row['port']} {row['model']}")
def test_names_and_shapes_are_those_of_the_port_s_own_class(row: dict[str, Any]) -> None:
    shapes = expected(PORTS[row["port"]], VARIANTS[row["model"]])
    assert (digest(shapes), len(shapes)) == (row["names_and_shapes"], row["tensors"])
    assert row["agree"]
    assert row["error"] < RECORD["limit"]
    assert min(row["faults"].values()) > 1000 * RECORD["limit"]
    assert row["round_trip"]["theirs_equal"] == row["round_trip"]["theirs"]


def test_every_port_was_built_and_compared() -> None:
    measured = {(row["port"], row["model"]) for row in RECORD["rows"]}
    assert {model for port, model in measured if port == NAMINGS["effdet"].port} == set(OFFICIAL_NAMES)
    assert {port for port, _ in measured} == {NAMINGS[name].port for name in ("effdet", "zylo117", "pytorch-tools")}


@pytest.mark.parametrize(
    ("naming", "config"),
    [
        (naming, config)
        for naming in NAMINGS.values()
        for config in map(VARIANTS.__getitem__, OFFICIAL_NAMES)
        if naming.models(config)
    ],
    ids=lambda value: value.name,
)
def test_every_tensor_has_one_place(naming: Naming, config: Config) -> None:
    table = places(naming, config)
    assert [place.ours for place in table] == [rule.torch for rule in rules(config)]
    assert len({(place.theirs, place.element) for place in table}) == len(table)
    assert not {place.theirs for place in table} & set(naming.unused(config))


def test_where_every_tensor_is_agrees_with_the_reviewed_table(repository: Path) -> None:
    """Names and shapes alone do not tell that two tensors of one shape are exchanged."""
    written = load_script(repository / "tools" / "write_rule_tables.py").naming_tables()
    golden = {path.name: path.read_text() for path in (repository / "tests" / "golden" / "namings").iterdir()}
    assert written == golden, "`python tools/write_rule_tables.py` rewrites them; review what differs"


def test_mmdetection_s_names() -> None:
    """From its source; its classes need mmcv, which has no build for this version of PyTorch."""
    shapes = expected(NAMINGS["mmdetection"], get_config("d0"))
    assert shapes["backbone.layers.0.conv.weight"] == (32, 3, 3, 3)
    assert shapes["backbone.layers.1.0.linear_conv.conv.weight"] == (16, 32, 1, 1)
    assert "backbone.layers.1.0.expand_conv.conv.weight" not in shapes
    # Stages of one resolution are one layer: block 8 is the fourth of its fourth.
    assert shapes["backbone.layers.4.3.depthwise_conv.conv.weight"] == (480, 1, 5, 5)
    assert shapes["backbone.layers.5.4.linear_conv.conv.weight"] == (320, 1152, 1, 1)
    assert shapes["neck.bifpn.0.p5_level_connection.down_conv.bias"] == (64,)
    assert shapes["neck.bifpn.2.p7_w2"] == (2,)
    assert shapes["bbox_head.reg_bn_list.2.4.running_var"] == (64,)
    assert len(shapes) == 676


@pytest.mark.parametrize("classes", [2, 3, 90])
@pytest.mark.parametrize("model", ["d0", "d6", "lite0"])
def test_from_any_naming_to_any_other(model: str, classes: int) -> None:
    config = dataclasses.replace(get_config(model), num_classes=classes)
    namings = [naming for naming in NAMINGS.values() if naming.models(config)]
    ours = state_of(config)
    exact = folded(ours, config)
    files = {naming.name: to_port(ours, naming, config) for naming in namings}
    for naming in namings:
        shapes = {key: value.shape for key, value in files[naming.name].items()}
        assert [fit.num_classes for fit in fits(shapes, naming)] == [classes] * (2 if model == "d6" else 1)
        state = from_port(files[naming.name], naming, config)
        for other in namings:
            again = folded(from_port(to_port(state, other, config), other, config), config)
            for key, value in again.items():
                np.testing.assert_allclose(value, exact[key], rtol=1e-6, atol=1e-3, err_msg=key)


def folded(state: dict[str, Array], config: Config) -> dict[str, Array]:
    """The same function without redundant biases, as a port that has none keeps it."""
    naming = NAMINGS["pytorch-tools"]
    return from_port(to_port(state, naming, config), naming, config) if naming.models(config) else state


def test_a_bias_without_a_place_is_folded_and_its_epsilon_moved() -> None:
    """pytorch-tools' norm of a convolution without bias is ours of one with it, at every value."""
    config, naming = get_config("d0"), NAMINGS["pytorch-tools"]
    random = np.random.default_rng(0)
    ours = {key: random.uniform(0.5, 2, value.shape).astype(np.float32) for key, value in state_of(config).items()}
    theirs = to_port(ours, naming, config)
    x, node = random.standard_normal(64), "bifpn.cells.1.nodes.5."
    mean, variance = (ours[f"{node}norm.{name}"].astype(np.float64) for name in ("running_mean", "running_var"))
    expected_ = (x + ours[f"{node}conv.pointwise.bias"] - mean) / np.sqrt(variance + 1e-3)
    norm = "bifpn.1.p_out_convs.1.2."
    found = (x - theirs[f"{norm}running_mean"]) / np.sqrt(theirs[f"{norm}running_var"].astype(np.float64) + 1e-5)
    np.testing.assert_allclose(found, expected_, rtol=1e-6, atol=1e-6)
    assert "bifpn.1.p_out_convs.1.1.bias" not in theirs
    # Some of its files have the bias: then it is read, and nothing was folded.
    with_bias = {**theirs, "bifpn.1.p_out_convs.1.1.bias": np.full(64, 7, np.float32)}
    state = from_port(with_bias, naming, config)
    assert (state[f"{node}conv.pointwise.bias"] == 7).all()
    assert recognise({key: value.shape for key, value in with_bias.items()}, "file").config == config


def test_effdet_s_level_first_heads_are_a_renaming() -> None:
    """effdet `HeadNet.toggle_bn_level_first`: [level][repeat], without the container `bn`; nothing else differs."""
    config = get_config("d4")  # as many repeats as makes a lost transposition visible: 4 beside 5 levels
    state = state_of(config)
    usual, turned = (to_port(state, NAMINGS[name], config) for name in ("effdet", "effdet-level-first"))
    toggled = {}
    for key, value in usual.items():
        head, _, rest = key.partition(".bn_rep.")
        repeat, level, *names = rest.split(".") if rest else ("", "")
        toggled[f"{head}.bn_rep.{level}.{repeat}.{names[1]}" if rest else key] = value
    assert turned.keys() == toggled.keys()
    assert all(np.array_equal(value, toggled[key]) for key, value in turned.items())
    assert turned["class_net.bn_rep.4.3.weight"].shape == (224,)
    for name, theirs in (("effdet", usual), ("effdet-level-first", turned)):
        fit = recognise({key: value.shape for key, value in theirs.items()}, "file")
        assert (fit.naming.name, fit.config) == (name, config)
        back = from_port(theirs, fit.naming, config)
        assert all(np.array_equal(back[key], value) for key, value in state.items())


def shapes_of(name: str, model: str, **changes: Any) -> dict[str, tuple[int, ...]]:
    return expected(NAMINGS[name], dataclasses.replace(get_config(model), **changes))


def without(shapes: dict[str, tuple[int, ...]], ending: str) -> dict[str, tuple[int, ...]]:
    return {key: shape for key, shape in shapes.items() if not key.endswith(ending)}


def test_a_file_is_known_by_its_names_and_shapes() -> None:
    fit = recognise(shapes_of("zylo117", "d1", num_classes=3), "pets.pth")
    assert (fit.naming.name, fit.config.name, fit.config.num_classes) == ("zylo117", "efficientdet-d1", 3)
    assert recognise(shapes_of("mmdetection", "d3"), "x.pth").config == get_config("d3")


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (shapes_of("effdet", "d7"), "its tensors are those of efficientdet-d6 and efficientdet-d7; say which"),
        (
            shapes_of("effdet", "d0") | shapes_of("zylo117", "d0"),
            "its names are effdet (timm) and zylo117/Yet-Another-EfficientDet-Pytorch's; say which it is of",
        ),
        ({"neck.lateral_convs.0.conv.weight": (64, 40, 1, 1)}, "toandaominh1997/EfficientDet.Pytorch, which is"),
        ({"regressor.layers.0.weight": (64, 64, 3, 3)}, "signatrix/efficientdet, which is another network"),
        ({"backbone.input_conv.0.weight": (32, 3, 3, 3)}, "NVIDIA's DeepLearningExamples, whose backbone pads symm"),
        (
            # Its heads have effdet's names.
            shapes_of("effdet", "d0") | {"backbone.input_conv.0.weight": (32, 3, 3, 3)},
            "NVIDIA's DeepLearningExamples, whose backbone pads symmetrically",
        ),
        ({"layer1.weight": (1,)}, "names of no kind that effconv knows"),
        (
            without(shapes_of("effdet", "d0"), "combine.conv.conv_pw.bias"),
            "effdet's models without tf_ in their name (expected a bias fpn.cell. ... .conv_pw.bias, found none)",
        ),
        (
            without(shapes_of("effdet-level-first", "d1", num_classes=3), "combine.conv.conv_pw.bias"),
            "pad symmetrically where TensorFlow pads at the bottom and right: another function; it cannot be converted",
        ),
        (
            shapes_of("effdet-level-first", "d0") | {"fpn.cell.0.fnode.10.combine.edge_weights": (2,)},
            "effdet's efficientdet_q*, whose fusion is a QuadFPN: another network; it cannot be converted",
        ),
        (
            shapes_of("effdet", "d0") | {"backbone.blocks.1.0.conv_exp.weight": (96, 24, 3, 3)},
            "effdet's efficientdetv2_*, whose backbone is EfficientNetV2: another network",
        ),
        (
            without(shapes_of("effdet", "d0"), "class_net.conv_rep.0.conv_pw.bias"),
            "nearest is efficientdet-d0: 1 missing from the file: class_net.conv_rep.0.conv_pw.bias",
        ),
        (
            shapes_of("effdet", "d0") | {"backbone.bn1.weight": (33,)},
            "1 of another shape: backbone.bn1.weight (expected [32], found [33])",
        ),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused_in_a_line(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(CheckpointError) as refused:
        recognise(shapes, "file.pth")
    assert message in str(refused.value)
    assert len(str(refused.value)) < 600
    assert "\n" not in str(refused.value)
