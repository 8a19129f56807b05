"""The official computation in TensorFlow: against what the official code recorded, and our model against it."""

import ast
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

import effconv
from effconv.convert.layers import layers
from effconv.effdet_torch.config import Config, get_config
from effconv.effdet_torch.model import EfficientDet
from effconv.errors import EffconvError
from effconv.parity.comparison.compare import compare, precisions
from effconv.parity.difference import largest, relative_error
from effconv.parity.limits import FLOAT64_LIMIT, accumulated_limit
from effconv.parity.reference.network import OfficialNetwork, import_tensorflow
from effconv.parity.traces.candidate import Lockstep
from effconv.parity.traces.golden import OPERATION_PREFIX, Golden
from effconv.parity.traces.images import noise
from effconv.parity.traces.official import OfficialTrace, official_variables
from tensors import config_of
from tiny_models import load_tiny

GOLDEN = Path(__file__).parents[2] / "golden"
TINY = ("tiny-swish", "tiny-sum8", "tiny-lite")
SIZES = {7: [(128, 160), (97, 193)], 8: [(192, 256), (257, 193)]}
# Records: kept in this repository, with the operations of the graph, and of full-size models.
KEPT = [("tiny-swish", "128x160"), ("tiny-sum8", "256x256"), ("tiny-sum8", "256x320"), ("tiny-lite", "128x128")]
FULL = [("tiny-swish", "128x160"), ("tiny-sum8", "256x256"), ("tiny-lite", "128x128")]
BIG = [("efficientdet-d0", "512x512"), ("efficientdet-d0", "384x640"), ("efficientdet-lite0", "320x320")]

pytestmark = pytest.mark.tf


def official(folder: Path, config: Config, images: np.ndarray) -> OfficialTrace:
    return OfficialTrace(config, official_variables(folder, config)[0], images, {})


# --- the reference against the official code's records -----------------------------------------------------------


class Agreement(NamedTuple):
    """One recorded tensor beside ours: errors relative to the record's largest, and what rounding can explain."""

    name: str
    float32: float
    float64: float
    limit: float


def agreements(trace: OfficialTrace, golden: Golden, model: EfficientDet) -> Iterator[Agreement]:
    """Every recorded tensor that is a layer, within what rounding every layer of `model` once has cost so far."""
    recorded = set(golden.names)
    table = {layer.key: layer for layer in layers(trace.config)}
    rounded = Lockstep(precisions(model).rounded, trace.images, list(table.values()), rounding=torch.float32)
    expected = 0.0
    for activation in trace.activations("accumulated"):
        layer = table[activation.key]
        once = rounded.at(activation.key)
        expected = max(expected, relative_error(once, activation.float64, largest(activation.float64)))
        operation = [OPERATION_PREFIX + layer.operation] if layer.operation else []
        for name in {*layer.endpoints, *operation} & recorded:
            tensor = golden[name]
            assert tensor.shape == activation.float32.shape, name
            scale = largest(tensor.sample)
            errors = (
                relative_error(tensor.sample.ravel(), array.reshape(-1)[:: tensor.step], scale)
                for array in (activation.float32, activation.float64)
            )
            yield Agreement(name, *errors, accumulated_limit(expected))
    rounded.close()


def require_agreement(trace: OfficialTrace, golden: Golden, model: EfficientDet) -> None:
    found = list(agreements(trace, golden, model))
    worst = max(found, key=lambda each: max(each.float32, each.float64) / each.limit)
    print(f"nearest its limit of {len(found)}: {worst}")
    assert [each for each in found if not max(each.float32, each.float64) <= each.limit] == []
    names = {name for layer in layers(trace.config) for name in layer.endpoints}
    operations = {OPERATION_PREFIX + layer.operation for layer in layers(trace.config)}
    assert {each.name for each in found} == (names | operations) & set(golden.names)


@pytest.mark.parametrize(("name", "size"), KEPT)
def test_kept_records(name: str, size: str) -> None:
    golden = Golden(GOLDEN / name / f"activations_{size}.npz")
    config = config_of(GOLDEN / name)
    require_agreement(official(GOLDEN / name, config, golden.images()), golden, load_tiny(GOLDEN / name))


@pytest.mark.shared
@pytest.mark.parametrize(("name", "size"), FULL)
def test_records_with_the_graphs_operations(name: str, size: str, shared: Path) -> None:
    golden = Golden(shared / "goldens" / f"act_{name}_{size}.npz")
    config = config_of(GOLDEN / name)
    require_agreement(official(GOLDEN / name, config, golden.images()), golden, load_tiny(GOLDEN / name))


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), BIG)
def test_records_of_full_size_models(name: str, size: str, shared: Path, full_size: Callable[[str], Path]) -> None:
    golden = Golden(shared / "goldens" / f"act_{name}_{size}.npz")
    require_agreement(
        official(full_size(name), get_config(name), golden.images()), golden, effconv.load(full_size(name), model=name)
    )


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_reference_walks_the_table_in_order(precision: str, tiny: Path) -> None:
    config = config_of(tiny)
    network = OfficialNetwork(config, official_variables(tiny, config)[0], precision)
    images = noise(0, SIZES[config.max_level][-1]).transpose(0, 2, 3, 1).astype(precision)
    found = list(network.run(import_tensorflow().constant(images)))
    assert [name for name, _ in found] == [layer.official for layer in layers(config)]
    assert {activation.dtype.name for _, activation in found} == {precision}
    outputs = [f"{kind}_outputs/{level}" for kind in ("class", "box") for level in config.levels]
    assert list(network.outputs) == outputs
    last = {name: activation for name, activation in found if name in outputs}
    assert all(network.outputs[name] is last[name] for name in outputs)


def test_a_replacement_takes_the_layers_place(tiny: Path) -> None:
    """In a local walk every layer's float64 follows from the float32 activations before it; each step is near."""
    config = config_of(tiny)
    trace = official(tiny, config, noise(0, SIZES[config.max_level][-1]))
    gaps = {
        kind: {each.key: np.abs(each.float32 - each.float64).max() for each in trace.activations(kind)}
        for kind in ("local", "accumulated")
    }
    first = next(iter(gaps["local"]))
    assert gaps["local"][first] == gaps["accumulated"][first]  # nothing has been replaced before it
    drifted = [key for key in gaps["local"] if gaps["accumulated"][key] > 2 * gaps["local"][key]]
    assert len(drifted) > len(gaps["local"]) / 2
    # A copy of replaced values has no rounding of its own.
    copies = [layer.key for layer in layers(config) if layer.exact and "resamples" in layer.key]
    assert {gaps["local"][key] for key in copies} == {0.0}


def test_what_the_reference_refuses(tiny: Path) -> None:
    config = config_of(tiny)
    variables = official_variables(tiny, config)[0]
    with pytest.raises(EffconvError, match=r"a 1x[0-9]+ map cannot become"):
        list(official(tiny, config, noise(0, (16, 512))).activations("local"))
    variables.pop(f"{config.backbone}/blocks_3/conv2d/kernel")
    network = OfficialNetwork(config, variables, "float32")
    with pytest.raises(KeyError, match="blocks_3/conv2d/kernel"):
        list(network.run(import_tensorflow().zeros((1, 64, 64, 3))))


def test_the_reference_shares_no_code_with_what_it_proves(repository: Path) -> None:
    tree = ast.parse((repository / "parity" / "reference" / "network.py").read_text())
    imported = {
        (node.level, node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if node.level or (node.module or "").startswith("effconv")
    }
    plain = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    # Standard error, and casts to float64: they compute nothing of a network.
    beside = {(1, "notes", "without_notes"), (1, "wide_variables", "WideVariables")}
    assert imported == {(3, "effdet_torch.config", "Config"), (3, "errors", "EffconvError"), *beside}
    assert not plain & {"effconv", "torch", "importlib"}


# --- our model against the reference -----------------------------------------------------------------------------


def require_parity(folder: Path, model: EfficientDet, images: np.ndarray) -> None:
    trace = official(folder, model.config, images)
    rows = compare(trace, model)
    assert [f"{row.layer.key}: {row.reason}" for row in rows if not row.ok] == []
    assert [row.layer.key for row in rows] == [layer.key for layer in layers(model.config)]
    assert all(len(row.checks) == 4 for row in rows)
    algorithm = {key: max(row.checks[f"float64 {key}"].difference.error for row in rows) for key in trace.kinds}
    print(algorithm)
    assert max(algorithm.values()) < FLOAT64_LIMIT / 100  # measured, and far from the limit


@pytest.mark.parametrize(
    ("name", "size"),
    [(name, size) for name in TINY for size in SIZES[config_of(GOLDEN / name).max_level]],
)
def test_every_layer_of_the_tiny_models(name: str, size: tuple[int, int]) -> None:
    require_parity(GOLDEN / name, load_tiny(GOLDEN / name), noise(1, size))


def test_every_layer_with_residual_heads() -> None:
    """The same variables; each repeat but the first adds its input, which shows in what comes after it."""
    folder = GOLDEN / "tiny-swish"
    plain = config_of(folder)
    residual = dataclasses.replace(plain, residual_heads=True)
    require_parity(folder, effconv.load(folder, model=residual), noise(1, (65, 96)))
    rows = compare(official(folder, residual, noise(1, (65, 96))), effconv.load(folder, model=plain))
    wrong = {row.layer.key for row in rows if not row.ok}
    assert {key.split(".")[0] for key in wrong} == {"class_head", "box_head"}
    assert not any(".convs.0" in key or ".norms.0" in key for key in wrong)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("efficientdet-d0", (512, 512)),
        ("efficientdet-d0", (384, 640)),
        ("efficientdet-d0", (385, 513)),
        ("efficientdet-d1", (640, 640)),
        ("efficientdet-lite0", (320, 320)),
    ],
)
def test_every_layer_of_full_size_models(name: str, size: tuple[int, int], full_size: Callable[[str], Path]) -> None:
    folder = full_size(name)
    require_parity(folder, effconv.load(folder, model=name), noise(1, size))


class Run(NamedTuple):
    """Circumstances that must not change a verdict."""

    name: str
    seed: int
    size: tuple[int, int]
    threads: int = 1
    memory_format: torch.memory_format = torch.contiguous_format
    scale: float = 1.0
    batch: int = 1


LAST = torch.channels_last
RUNS = [
    Run("tiny-swish", 10, (64, 64)),
    Run("tiny-swish", 11, (64, 64), threads=2),
    Run("tiny-swish", 12, (65, 97)),
    Run("tiny-swish", 13, (130, 70), memory_format=LAST),
    Run("tiny-swish", 14, (127, 129), threads=2, memory_format=LAST),
    Run("tiny-swish", 15, (64, 64), scale=1e-3),
    Run("tiny-swish", 16, (96, 96), scale=100.0),
    Run("tiny-swish", 17, (33, 33), batch=3),
    Run("tiny-sum8", 18, (128, 128)),
    Run("tiny-sum8", 19, (129, 130), threads=2),
    Run("tiny-sum8", 20, (257, 193), memory_format=LAST),
    Run("tiny-sum8", 21, (128, 128), scale=1e-3, batch=2),
    Run("tiny-sum8", 22, (128, 128), scale=30.0, memory_format=LAST),
    Run("tiny-lite", 23, (64, 64), threads=2),
    Run("tiny-lite", 24, (65, 97), memory_format=LAST),
    Run("tiny-lite", 25, (127, 129)),
    Run("tiny-lite", 26, (64, 64), scale=1e-3, threads=2),
    Run("tiny-lite", 27, (64, 64), scale=100.0),
    Run("tiny-lite", 28, (130, 70), threads=2, memory_format=LAST),
    Run("tiny-lite", 29, (33, 33), batch=4),
]


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.name}-{run.seed}")
def test_no_false_alarm(run: Run, threads: Callable[[int], None]) -> None:
    threads(run.threads)
    images = np.concatenate([noise(run.seed + 100 * place, run.size) for place in range(run.batch)]) * run.scale
    model = load_tiny(GOLDEN / run.name).to(memory_format=run.memory_format)
    require_parity(GOLDEN / run.name, model, images.astype(np.float32))
