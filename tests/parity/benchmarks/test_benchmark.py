"""Measuring: contestants in processes of their own, and the memory promised for the largest model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from effconv.errors import EffconvError
from effconv.parity.benchmarks.process import make_checkpoint, run_process
from effconv.parity.benchmarks.process_records import ConversionRecord
from effconv.parity.benchmarks.tables import conversion_table


@pytest.mark.slow
def test_converting_the_largest_model_peaks_below_2_2_times_its_weights(tmp_path: Path) -> None:
    prefix, weights = tmp_path / "model", tmp_path / "x.safetensors"
    make_checkpoint("d7x", str(prefix))
    command = ["effconv.cli", "tf2torch", "--model", "d7x", "--ckpt", str(prefix), "-o", str(weights)]
    ratio = run_process(*command).peak_bytes / weights.stat().st_size
    prefix.with_name("model.data-00000-of-00001").unlink()  # 0.6 GB; pytest keeps the folder for a while
    weights.unlink()
    print(f"peak memory {ratio:.2f} times the weights kept")
    # The weights themselves are one; a checkpoint read whole, raw weights and averages, would be another two.
    assert 1.0 < ratio < 2.2


@pytest.mark.tf
@pytest.mark.slow
def test_bench_convert_reports_ratios_of_medians(tmp_path: Path, repository: Path) -> None:
    model = repository / "tests" / "golden" / "tiny-swish" / "config.json"
    command = [sys.executable, "-m", "effconv.cli", "bench", "convert", "--model", str(model), "--rounds", "1"]
    record_path = tmp_path / "record.json"
    done = subprocess.run(
        [*command, "--record", str(record_path), "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record == json.loads(record_path.read_text()) == ConversionRecord.read(record).plain()
    rows = {row["what"]: row for row in record["rows"]}
    whole = rows["whole command"]
    figures = {name: [run["seconds"] for run in runs] for name, runs in record["figures"].items()}
    assert (whole["effconv"], whole["tensorflow"]) == (figures["effconv"][0], figures["tensorflow"][0])
    assert whole["ratio"] == whole["tensorflow"] / whole["effconv"]
    assert len(conversion_table(ConversionRecord.read(record)).splitlines()) == 2 + len(rows)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules a process finds."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH")))))
    return tmp_path


def test_a_failing_contestant_is_reported_with_its_last_words(programs: Path) -> None:
    (programs / "failing.py").write_text("import sys; print('the reason', file=sys.stderr); sys.exit(3)")
    with pytest.raises(EffconvError, match="`python -m failing one two` failed with status 3: the reason"):
        run_process("failing", "one", "two", "three")


def test_peak_memory_is_the_childs_own(programs: Path) -> None:
    # This process, with torch in it, is far larger than either child.
    (programs / "bytes_held.py").write_text("import sys\nx = b'x' * int(sys.argv[1])\nprint(len(x))")
    small, large = (run_process("bytes_held", str(size)) for size in (1, 150_000_000))
    assert (small.output, large.output) == ("1\n", "150000000\n")
    assert small.peak_bytes < 40e6
    assert large.peak_bytes - small.peak_bytes == pytest.approx(150e6, rel=0.05)
