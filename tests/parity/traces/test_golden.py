"""Reading the official code's recorded runs: samples, images, and which names are layers."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from effconv.convert.layers import layers
from effconv.errors import EffconvError
from effconv.parity.comparison.compare import compare, compare_traces
from effconv.parity.traces.candidate_trace import CandidateTrace
from effconv.parity.traces.golden import Golden, GoldenTrace
from effconv.parity.traces.trace import Activation, Kind
from tensors import config_of
from tiny_models import load_tiny

LITE = Path(__file__).parents[2] / "golden" / "tiny-lite"
STEP = 3  # of samples


def write(path: Path, tensors: Mapping[str, np.ndarray], **replaced: np.ndarray | None) -> Path:
    """A record of some tensors: those of more than 20 values as samples. Fields replaced by None are left out."""
    steps = [STEP if array.size > 20 else 1 for array in tensors.values()]
    samples = [array.reshape(-1)[::step] for array, step in zip(tensors.values(), steps, strict=True)]
    counts = [len(sample) for sample in samples]
    fields = {
        "names": np.array(list(tensors)),
        "meta": np.array(json.dumps({"model": "tiny-lite"})),
        "shapes": np.array([[*array.shape, *[-1] * (4 - array.ndim)] for array in tensors.values()]),
        "steps": np.array(steps),
        "offsets": np.cumsum([0, *counts[:-1]]),
        "counts": np.array(counts),
        "data": np.concatenate(samples),
        "input_photo": np.full((4, 6, 3), 0.5, np.float32),
    }
    np.savez(path, **{name: array for name, array in (fields | replaced).items() if array is not None})
    return path


def values(*shape: int) -> np.ndarray:
    return np.random.RandomState(len(shape)).standard_normal(shape).astype(np.float32)


@pytest.fixture
def tensors() -> dict[str, np.ndarray]:
    """The stem by its endpoint, the layer before it by its operation, a surplus layer, and what is no layer."""
    return {
        "backbone/stem": values(2, 4, 5, 3),
        "ops/efficientnet-lite0/stem/conv2d/Conv2D": values(1, 2, 2, 2),
        "ops/efficientnet-lite0/stem/Relu6": values(1, 2, 2, 3),
        "backbone/unheard_of": values(1, 1, 2, 2),
        "anchors": values(5, 4),
        "RAW_NOT_EMA/class_outputs/3": values(1, 1, 1, 4),
        "box_outputs/3": values(2, 1, 2),
    }


@pytest.fixture
def path(tmp_path: Path, tensors: dict[str, np.ndarray]) -> Path:
    return write(tmp_path / "record.npz", tensors)


def test_tensors_are_read_as_they_were_recorded(path: Path, tensors: dict[str, np.ndarray]) -> None:
    golden = Golden(path)
    assert golden.names == list(tensors)
    assert golden.meta == {"model": "tiny-lite"}
    for name, array in tensors.items():
        found = golden[name]
        assert (found.shape, found.step) == (array.shape, STEP if array.size > 20 else 1)
        assert np.array_equal(found.sample, array.reshape(-1)[:: found.step])


def test_images_are_the_photograph_and_then_seeded_noise(path: Path) -> None:
    images = Golden(path).images()
    assert (images.shape, images.dtype, images.flags.c_contiguous) == ((2, 3, 4, 6), np.float32, True)
    assert np.all(images[0] == 0.5)
    noise = np.random.RandomState(20240501).standard_normal((4, 6, 3)).astype(np.float32)
    assert np.array_equal(images[1], noise.transpose(2, 0, 1))


def test_a_trace_has_every_layer_of_the_record(path: Path, tensors: dict[str, np.ndarray]) -> None:
    config = config_of(LITE)
    trace = GoldenTrace(Golden(path), config, path)
    found = {each.key: each for each in trace.activations("accumulated")}
    names = {
        "backbone.stem.conv": "ops/efficientnet-lite0/stem/conv2d/Conv2D",
        "backbone.stem.norm": "backbone/stem",
        "box_head.predict[3]": "box_outputs/3",
        "backbone/unheard_of": "backbone/unheard_of",
    }
    assert list(found) == list(names)  # in the order of computation; what is no layer of the model is last
    for key, name in names.items():
        activation, array = found[key], tensors[name]
        assert (activation.shape, activation.step) == (array.shape, STEP if array.size > 20 else 1)
        whole = array if activation.step == 1 else array.reshape(-1)[::STEP]
        assert activation.float32.shape == whole.shape
        assert np.array_equal(activation.float32, whole)
        assert activation.float64 is activation.noise is None
    assert trace.required == {layer.key for layer in layers(config) if layer.endpoints}
    assert (trace.kinds, trace.exact, trace.config) == (("accumulated",), False, config)
    assert (trace.source["kind"], trace.source["model"]) == ("golden", "tiny-lite")
    assert path.name in trace.source["label"]
    with pytest.raises(ValueError, match="not 'local'"):
        next(trace.activations("local"))


def test_an_endpoint_goes_before_the_operation_and_either_before_an_alias(tmp_path: Path) -> None:
    operation = "ops/resample_p7/max_pooling2d/MaxPool"
    pairs = {"resample_p7": values(1, 1, 1, 3), operation: values(1, 1, 1, 2)}
    pairs |= {"backbone/reduction_5": values(1, 2, 1, 3), "backbone/features": values(1, 2, 1, 2)}
    golden = Golden(write(tmp_path / "record.npz", pairs))
    shapes = {
        each.key: each.shape for each in GoldenTrace(golden, config_of(LITE), tmp_path).activations("accumulated")
    }
    assert shapes["bifpn.extra_levels.7"] == (1, 1, 1, 3)
    assert (1, 2, 1, 3) in shapes.values()
    assert len(shapes) == 2


def test_what_is_missing_or_surplus_fails_a_comparison(tmp_path: Path) -> None:
    with np.load(next(LITE.glob("activations_*.npz"))) as archive:
        fields = dict(archive)
    fields["names"][list(fields["names"]).index("backbone/stem")] = "backbone/other"
    np.savez(tmp_path / "record.npz", **fields)
    model = load_tiny(LITE)
    rows = compare(GoldenTrace(Golden(tmp_path / "record.npz"), model.config, tmp_path), model)
    assert {row.layer.key: row.reason for row in rows if not row.ok} == {
        "backbone/other": "in the reference, but no layer of this model",
        "backbone.stem.norm": "not in the reference",
    }


@pytest.mark.parametrize("field", ["names", "meta", "shapes", "steps", "offsets", "counts", "data", "input_photo"])
def test_a_record_that_lacks_a_field_is_refused(field: str, tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = write(tmp_path / "record.npz", tensors, **{field: None})
    with pytest.raises(EffconvError, match=r"record\.npz: not a readable record of activations"):
        Golden(path)


def test_what_is_no_record_is_refused(path: Path, tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.npz").write_bytes(content[:length])
        with pytest.raises(EffconvError, match=r"cut\.npz: not a readable record"):
            Golden(tmp_path / "cut.npz")
    for each in (
        tmp_path / "absent.npz",
        tmp_path,
        write(tmp_path / "text.npz", tensors, meta=np.array("{")),
        write(tmp_path / "pickle.npz", tensors, names=np.array([{}], object)),
    ):
        with pytest.raises(EffconvError, match="not a readable record of activations"):
            Golden(each)


def test_a_record_and_another_trace_are_compared_layer_by_layer() -> None:
    path = next(LITE.glob("activations_*.npz"))
    golden, model, clean = Golden(path), load_tiny(LITE), load_tiny(LITE)
    recorded = GoldenTrace(golden, model.config, path)
    rows = list(compare_traces(recorded, CandidateTrace(model, golden.images(), {}), clean))
    assert [row.layer.key for row in rows] == [each.key for each in recorded.activations("accumulated")]
    assert all(row.ok and set(row.checks) == {"float32 accumulated"} for row in rows)
    assert all(row.checks["float32 accumulated"].noise.estimated for row in rows)
    block = model.backbone.blocks[2]
    with torch.no_grad():
        block.project_norm.bias.add_(1e-3)
    again = compare_traces(recorded, CandidateTrace(model, golden.images(), {}), clean)
    wrong = {row.layer.key for row in again if not row.ok}
    layers_in_order = [row.layer.key for row in rows]
    first = next(place for place, key in enumerate(layers_in_order) if key in wrong)
    assert layers_in_order[first] == "backbone.blocks.2"
    assert len(wrong) > 0.9 * (len(rows) - first)


def test_a_trace_that_lacks_a_layer_of_the_record_fails_there() -> None:
    path = next(LITE.glob("activations_*.npz"))
    golden, model = Golden(path), load_tiny(LITE)

    class Lacking(CandidateTrace):
        def activations(self, kind: Kind) -> Iterator[Activation]:
            return (each for each in super().activations(kind) if each.key != "box_head.predict[3]")

    rows = compare_traces(GoldenTrace(golden, model.config, path), Lacking(model, golden.images(), {}), model)
    # What comes after it is not looked for again, so the first to fail is the one that is missing.
    first = next(row for row in rows if not row.ok)
    assert (first.layer.key, first.reason) == ("box_head.predict[3]", "not computed by the candidate")
