"""Programs of torch.export: the model's objects, and a file that finds others is not kept."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from exported_detectors import MODEL, checked, export, run

from effconv.convert.output_kinds import PROGRAM, may_replace
from effconv.effdet_torch.engines import onnx_detector, program
from effconv.parity.comparison.exported import PIXELS
from effconv.parity.traces.images import drawn
from kept_runs import SWISH
from tiny_models import load_tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an exported detector of pixels, `d.pt2`, and what the command said of it, `d.json`."""
    return export(tmp_path_factory.mktemp("exported"), "pt2")


def test_the_file_is_run_before_it_is_kept(folder: Path) -> None:
    record = checked(folder)
    assert record["input"] == ["batch", 64, 64, 3]
    assert may_replace(folder / "d.pt2", PROGRAM)


@pytest.mark.parametrize("batch", [1, 5])
def test_any_number_of_images(folder: Path, batch: int) -> None:
    pixels = torch.randint(0, 256, (batch, 64, 64, 3), dtype=torch.uint8)
    found = program.load_program(folder / "d.pt2")(pixels)
    one = program.load_program(folder / "d.pt2")(pixels[-1:])
    assert found["boxes"].shape == (batch, 100, 4)
    assert int(found["count"][-1]) == int(one["count"][0]) > 0
    torch.testing.assert_close(found["boxes"][-1:], one["boxes"], rtol=0, atol=PIXELS)


def test_the_network_alone(tmp_path: Path) -> None:
    assert run("export", "pt2", *MODEL, "--raw", "-o", tmp_path / "raw.pt2").exit_code == 0
    images = torch.randn(3, 3, 64, 64)
    found = program.load_program(tmp_path / "raw.pt2")(images)
    with torch.inference_mode():
        expected = load_tiny(SWISH)(images)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(list(one), list(other), rtol=1e-4, atol=1e-4)


def test_the_script_of_the_documentation_needs_nothing_of_effconv(folder: Path, repository: Path) -> None:
    text = (repository / "docs" / "deploy.md").read_text().partition("## PyTorch without effconv")[2]
    code = text.partition("```python\n")[2].partition("```")[0]
    assert "effconv" not in code.replace("effconv.json", "")
    (folder / "detect.py").write_text(code)
    (folder / "picture.jpg").write_bytes(drawn(2, (256, 256)))
    words = [sys.executable, "detect.py", "d.pt2", "picture.jpg"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) > 5
    assert all(re.fullmatch(r"category \d 0\.\d\d at \(\d+, \d+\) to \(\d+, \d+\)", line) for line in lines), lines


@pytest.mark.parametrize(("name", "value"), [("OVERLAP", 0.95), ("CANDIDATES", 60)])
def test_a_file_that_finds_other_objects_is_not_kept(
    name: str, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, name, value)
    assert onnx_detector.OVERLAP == 0.5
    result = run("export", "pt2", *MODEL, "--min-score", 0.1, "-o", tmp_path / "x.pt2")
    assert result.exit_code == 1
    assert "not the model: of" in result.stderr
    assert not [*tmp_path.iterdir()]


def test_bad_input_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("export", "pt2", *MODEL, "-o", "x.onnx")
    assert (result.exit_code, result.stderr) == (2, "effconv: x.onnx: expected a file ending in .pt2\n")
    Path("x.pt2").write_text("theirs")
    result = run("export", "pt2", *MODEL, "-o", "x.pt2")
    assert "is not a program of torch.export that effconv wrote" in result.stderr
    assert Path("x.pt2").read_text() == "theirs"
