"""The layer table: its names are unique, its order is the order of computation, and the official code has them all."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from effconv.convert.layers import Layer, layers
from effconv.effdet_torch.config import OFFICIAL_NAMES, Config, get_config
from effconv.effdet_torch.model import EfficientDet
from effconv.parity.traces.golden import NOT_LAYER_PREFIX, NOT_LAYERS, OPERATION_PREFIX, Golden, GoldenTensor
from tensors import config_of
from tiny_models import load_tiny

GOLDEN = Path(__file__).parent.parent / "golden"
TINY = ("tiny-swish", "tiny-sum8", "tiny-lite")
SIZES = {7: (97, 193), 8: (193, 385)}  # by the highest level: odd, so that every level's map has its own size
RECORDS = [
    "efficientdet-d0_384x640",
    "efficientdet-d0_512x512",
    "efficientdet-lite0_320x320",
    "tiny-lite_128x128",
    "tiny-sum8_256x256",
    "tiny-swish_128x160",
]


def config_named(name: str) -> Config:
    return config_of(GOLDEN / name) if name in TINY else get_config(name)


@pytest.mark.parametrize("name", [*OFFICIAL_NAMES, *TINY])
def test_no_two_layers_share_a_name(name: str) -> None:
    config = config_named(name)
    table = layers(config)
    for names in (
        [layer.key for layer in table],
        [layer.official for layer in table],
        [endpoint for layer in table for endpoint in layer.endpoints],
    ):
        assert len(set(names)) == len(names)
        assert all(names)
    consumers = [layer.consumer for layer in table if layer.consumer]
    # Without squeeze-excite, what leaves a block's depthwise norm is already what its projection takes.
    twice = {layer.consumer for layer in table if layer.module.endswith(".squeeze_excite")}
    assert {name for name in consumers if consumers.count(name) > 1} == (set() if config.squeeze_excite else twice)
    operations = [layer.operation for layer in table if layer.operation]
    # A projection without resize is one operation with two layers: the norm, and the resample that ends with it.
    twice = {name for name in operations if operations.count(name) > 1}
    assert all(name.endswith("/bn/FusedBatchNormV3") and "/resample_" in f"/{name}" for name in twice)


@pytest.mark.parametrize("name", [*OFFICIAL_NAMES, *TINY])
def test_every_layer_is_a_module_and_every_module_with_weights_is_seen(name: str) -> None:
    config = config_named(name)
    with torch.device("meta"):
        modules = dict(EfficientDet(config).named_modules())
    seen = {layer.module for layer in layers(config)}
    assert seen <= set(modules)
    weighted = {path for path, module in modules.items() if [*module.parameters(recurse=False)]}
    weighted = {path.split(".edge_weights")[0] for path in weighted}
    # The heads' last pointwise convolution is their `predict`'s output.
    assert weighted - seen == {"class_head.predict.pointwise", "box_head.predict.pointwise"}


def calls(model: EfficientDet, size: tuple[int, int]) -> list[tuple[str, torch.Tensor]]:
    """(path, output) of every module's every call, in the order in which they end."""
    found = []

    def hook(path: str) -> object:
        return lambda module, inputs, output: found.append((path, output))

    for path, module in model.named_modules():
        if not isinstance(module, EfficientDet | nn.ModuleList | nn.ModuleDict):
            module.register_forward_hook(hook(path))
    with torch.inference_mode():
        model(torch.zeros(1, 3, *size))
    return found


def test_layers_are_in_the_order_of_computation(tiny: Path) -> None:
    model = load_tiny(tiny)
    table = layers(model.config)
    size = SIZES[model.config.max_level]
    modules = {layer.module for layer in table}
    found = [(path, output) for path, output in calls(model, size) if path in modules]
    assert [path for path, _ in found] == [layer.module for layer in table]
    levels = 0
    for layer, (_, output) in zip(table, found, strict=True):
        level = layer.level or (int(layer.module.rsplit(".", 1)[1]) if ".norms." in layer.module else None)
        if level is not None:
            levels += 1
            assert output.shape[2:] == tuple(math.ceil(side / 2**level) for side in size), layer.key
    config = model.config
    assert levels == 2 * len(config.levels) * (3 * config.head_repeats + 2)


def test_exact_layers_only_copy_compare_add_multiply_and_divide(tiny: Path) -> None:
    """They hold no convolution and no norm whose output is not itself a layer before them."""
    model = load_tiny(tiny)
    table = layers(model.config)
    exact = {layer.module for layer in table if layer.exact}
    kinds = {type(model.get_submodule(path)).__name__ for path in exact}
    assert kinds <= {"Resample", "WeightedFusion", "SumFusion", "MBConv"}
    assert {layer.module for layer in table if layer.module.endswith((".fuse", ".resamples.0"))} <= exact
    rounding = {layer.module for layer in table} - exact
    for path in exact:
        inner = {f"{path}.{name}" for name, module in model.get_submodule(path).named_modules() if name}
        weighted = {name for name in inner if isinstance(model.get_submodule(name), nn.Conv2d | nn.BatchNorm2d)}
        assert weighted <= rounding


def test_names_of_a_layer() -> None:
    table = {layer.key: layer for layer in layers(get_config("d0"))}
    assert table["class_head.predict[3]"].module == "class_head.predict"
    assert table["class_head.predict[3]"].official == "class_outputs/3"
    assert table["backbone.stem.conv"].official == "efficientnet-b0/stem/conv2d/Conv2D"
    assert table["backbone.blocks.1.expand_norm"].official == (
        "input of efficientnet-b0/blocks_1/depthwise_conv2d/depthwise"
    )
    assert table["backbone.blocks.15"].endpoints == ("backbone/block_15", "backbone/reduction_5", "backbone/features")
    assert Layer("a").official == ""
    assert Layer("a", 0).key == "a[0]"


# --- the official code's records ---------------------------------------------------------------------------------


@pytest.fixture(params=RECORDS)
def recorded(request: pytest.FixtureRequest, shared: Path) -> tuple[Golden, tuple[Layer, ...]]:
    """A record that has the graph's operations too, and the table of its model."""
    name = str(request.param)
    return Golden(shared / "goldens" / f"act_{name}.npz"), layers(config_named(name.rsplit("_", 1)[0]))


def endpoints_of(golden: Golden) -> set[str]:
    others = (OPERATION_PREFIX, NOT_LAYER_PREFIX)
    return {name for name in golden.names if not name.startswith(others) and name not in NOT_LAYERS}


def common(one: GoldenTensor, other: GoldenTensor) -> tuple[np.ndarray, np.ndarray]:
    """The values that two samples both hold."""
    step = math.lcm(one.step, other.step)
    return one.sample[:: step // one.step], other.sample[:: step // other.step]


@pytest.mark.shared
def test_the_official_graph_has_every_operation(recorded: tuple[Golden, tuple[Layer, ...]]) -> None:
    golden, table = recorded
    names = set(golden.names)
    operations = [name for layer in table for name in (layer.operation, layer.consumer) if name]
    assert len(operations) > len(table) / 2
    assert [name for name in operations if OPERATION_PREFIX + name not in names] == []


@pytest.mark.shared
def test_recorded_endpoints_are_the_tables(recorded: tuple[Golden, tuple[Layer, ...]]) -> None:
    golden, table = recorded
    assert endpoints_of(golden) == {endpoint for layer in table for endpoint in layer.endpoints}


@pytest.mark.shared
def test_names_of_one_layer_hold_one_activation(recorded: tuple[Golden, tuple[Layer, ...]]) -> None:
    golden, table = recorded
    pairs = 0
    for layer in table:
        operation = [OPERATION_PREFIX + layer.operation] if layer.operation else []
        first, *others = [golden[name] for name in (*layer.endpoints, *operation)] or [None]
        for other in others:
            assert other.shape == first.shape
            assert np.array_equal(*common(first, other)), layer.key
            pairs += 1
    assert pairs > 50


@pytest.mark.parametrize("name", TINY)
def test_kept_records_have_every_endpoint(name: str) -> None:
    records = sorted((GOLDEN / name).glob("activations_*.npz"))
    assert records
    for record in records:
        recorded = endpoints_of(Golden(record))
        assert recorded <= {endpoint for layer in layers(config_named(name)) for endpoint in layer.endpoints}
        assert all(recorded & set(layer.endpoints) for layer in layers(config_named(name)) if layer.endpoints)
