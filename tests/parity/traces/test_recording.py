"""Traces on disk: read back as they were written, one layer at a time; nothing is left when writing fails."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effconv.convert.layers import layers
from effconv.convert.output import OutputError
from effconv.parity.comparison.compare import compare
from effconv.parity.difference import largest, relative_error
from effconv.parity.traces import stored_array
from effconv.parity.traces.candidate_trace import CandidateTrace
from effconv.parity.traces.golden import Golden, GoldenTrace
from effconv.parity.traces.images import noise
from effconv.parity.traces.recording import RecordedTrace, TraceError, is_recording, record
from effconv.parity.traces.trace import KINDS, Activation, Kind, Trace
from small_traces import Small, everything, peak_memory
from tensors import config_of
from tiny_models import load_tiny


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A trace with float64."""
    record(Small(), tmp_path / "trace.npz", with_float64=True)
    return tmp_path / "trace.npz"


# --- round trip --------------------------------------------------------------------------------------------------


def test_no_noise_is_recorded_of_what_is_not_finite(tmp_path: Path) -> None:
    class Broken(Small):
        def activations(self, kind: Kind) -> Iterator[Activation]:
            for key, factor in (("a", np.nan), ("b", 1.0)):
                double = np.full(self.shape, factor)
                yield Activation(key, double.astype(np.float32), double)

    record(Broken(), tmp_path / "trace.npz")
    assert [each.noise for each in RecordedTrace(tmp_path / "trace.npz").activations("local")] == [None, 0.0]


@pytest.mark.parametrize("with_float64", [True, False])
def test_a_models_run_is_read_back(with_float64: bool, tiny: Path, tmp_path: Path) -> None:
    model = load_tiny(tiny)
    images = noise(2, (128, 128) if model.config.max_level == 8 else (65, 97))
    trace: Trace = CandidateTrace(model, images, {"checkpoint": "x"})
    path = tmp_path / "folder" / "trace.npz"
    counted = []
    count = record(trace, path, with_float64=with_float64, report=lambda done, total: counted.append((done, total)))
    assert counted == [(done, 2 * count) for done in range(1, 2 * count + 1)]
    assert is_recording(path)
    assert [each.name for each in path.parent.iterdir()] == ["trace.npz"]
    read = RecordedTrace(path)
    complete = {layer.key for layer in layers(trace.config)}
    assert (read.config, read.kinds, read.exact, read.required) == (trace.config, trace.kinds, True, complete)
    assert read.source == trace.source
    assert np.array_equal(read.images, images)
    for kind in KINDS:
        pairs = list(zip(trace.activations(kind), read.activations(kind), strict=True))
        assert len(pairs) == count
        for live, back in pairs:
            assert back.key == live.key
            assert back.float32.dtype == np.float32
            assert np.array_equal(back.float32, live.float32)
            assert back.step == 1
            scale = largest(live.float64)
            if with_float64:
                assert back.float64.dtype == np.float64
                # 48 bits; what is farther from float32 has fewer of them.
                kept = relative_error(back.float64, live.float64, scale)
                assert kept <= 2.0**-24 * relative_error(live.float32, live.float64, scale)
            else:
                assert back.float64 is None
                assert back.noise == relative_error(live.float32, live.float64, scale)
    assert [row.reason for row in compare(read, load_tiny(tiny)) if not row.ok] == []


def test_a_golden_is_read_back_with_its_samples(tiny: Path, tmp_path: Path) -> None:
    found = sorted(tiny.glob("activations_*.npz"))[0]
    trace = GoldenTrace(Golden(found), config_of(tiny), found)
    record(trace, tmp_path / "trace.npz")
    read = RecordedTrace(tmp_path / "trace.npz")
    assert (read.kinds, read.exact, read.required) == (("accumulated",), False, trace.required)
    pairs = list(zip(trace.activations("accumulated"), read.activations("accumulated"), strict=True))
    assert any(live.step > 1 for live, _ in pairs)
    for live, back in pairs:
        assert (back.key, back.noise, back.step) == (live.key, None, live.step)
        assert (back.shape or back.float32.shape) == live.shape
        assert np.array_equal(back.float32, live.float32)
    assert not is_recording(found)


def test_a_recording_can_be_recorded_again(path: Path, tmp_path: Path) -> None:
    record(Small(), path)
    again = tmp_path / "again.npz"
    record(RecordedTrace(path), again)
    assert everything(again) == everything(path)
    assert any(isinstance(each, tuple) and len(each) == 6 and each[3] for each in everything(path))


def test_memory_is_that_of_one_layer(tmp_path: Path) -> None:
    record(Small((1, 64, 64, 64)), tmp_path / "large.npz", with_float64=True)
    layer = 64**3 * 4

    def walk() -> None:
        trace = RecordedTrace(tmp_path / "large.npz")
        for kind in trace.kinds:
            for _ in trace.activations(kind):
                pass

    peak = peak_memory(walk)
    # float32, the remainder, float64 twice while they are added, and a part being read.
    assert peak < (1 + 1 + 2 + 2) * layer + 1.5 * stored_array.PART
    assert peak < (tmp_path / "large.npz").stat().st_size


# --- writing -----------------------------------------------------------------------------------------------------


def test_a_reference_that_differs_from_run_to_run_is_refused(tmp_path: Path) -> None:
    class Restless(Small):
        runs = 0

        def activations(self, kind: Kind) -> Iterator[Activation]:
            self.runs += 1
            for each in super().activations(kind):
                moved = each.key == "b" and self.runs == 2
                yield each._replace(float32=np.nextafter(each.float32, np.float32(9))) if moved else each

    with pytest.raises(TraceError, match=r"^b: two runs of the reference differ"):
        record(Restless(), tmp_path / "trace.npz")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_when_writing_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    calls = []

    def full(*arguments: Any, **options: Any) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        write_array(*arguments, **options)

    write_array = np.lib.format.write_array
    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(OutputError, match="No space left on device"):
        record(Small(), path)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before
