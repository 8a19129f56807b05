"""`effconv parity` and `trace`: verdicts, exit statuses, reports, and clear lines for bad input."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file, save_file

from effconv.cli import main
from effconv.convert.layers import layers
from effconv.convert.rules import rules
from effconv.parity.embedded import embedded_config
from exported_graphs import frozen_graph, saved_model

TINY = Path(__file__).parent.parent / "golden" / "tiny-swish"
RECORD = TINY / "activations_128x160.npz"
EMBEDDED_LAYERS = len(layers(embedded_config()))
EMBEDDED_TENSORS = len(rules(embedded_config()))
BROKEN = "TensorFlow is installed and cannot be imported ({}); pip install --force-reinstall tensorflow\n"
OF_TINY = ("--model", TINY / "config.json", "--ckpt", TINY)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def refuse(*arguments: object) -> str:
    """Run a command on bad input: status 2, nothing on stdout, one or two lines on stderr, which are returned."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) <= 2
    assert result.stderr.startswith("effconv: ")
    return result.stderr


@pytest.fixture
def tampered(tmp_path: Path) -> Path:
    """The tiny model's weights with one value of one kernel a millionth larger."""
    weights = tmp_path / "tampered.safetensors"
    result = run("tf2torch", "--model", TINY / "config.json", "--ckpt", TINY, "-o", weights)
    assert result.exit_code == 0
    state = load_file(weights)
    key = "backbone.blocks.5.expand.weight"
    state[key] = state[key].copy()
    place = np.unravel_index(np.abs(state[key]).argmax(), state[key].shape)
    state[key][place] *= np.float32(1 + 1e-6)
    save_file(state, weights)
    return weights


@pytest.mark.tf
def test_without_arguments_the_embedded_detector_is_proven_beside_tensorflow() -> None:
    done = run("parity")
    assert done.exit_code == 0, done.output
    held = f"all {EMBEDDED_LAYERS} layers hold, all {EMBEDDED_TENSORS} tensors are the checkpoint's"
    assert done.stdout.splitlines()[0] == f"shapes: nothing changed on the way: {held}"
    assert "the official computation in TensorFlow" in done.stdout
    lines = run("parity", "--layerwise").stdout.splitlines()
    assert sum(line.startswith("ok ") for line in lines) == EMBEDDED_LAYERS


def test_without_tensorflow_its_recording_proves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    done = run("parity", "--json")
    assert done.exit_code == 0, done.output
    assert "recorded, is used in its place. TensorFlow is needed here and not installed" in done.stderr
    record = json.loads(done.stdout)
    assert record["images"]["label"] == "000001.jpg"
    assert len(record["rows"]) == EMBEDDED_LAYERS
    assert {"float64 local", "float32 local"} <= set(record["rows"][0]["checks"])


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("ImportError('undefined symbol: _ZN')", "ImportError: undefined symbol: _ZN"),
        ("ModuleNotFoundError('No module', name='wrapt')", "ModuleNotFoundError: No module"),
        ("TypeError('Descriptors cannot be created.\\nSee above')", "TypeError: Descriptors cannot be created."),
    ],
)
def test_a_broken_tensorflow(raised: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_tensorflow(raised, tmp_path, monkeypatch)
    assert refuse("parity", "--reference", "tf") == f"effconv: {BROKEN.format(said)}"


def test_with_a_broken_tensorflow_its_recording_proves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_tensorflow("ImportError('no symbol')", tmp_path, monkeypatch)
    done = run("parity", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["images"]["label"] == "000001.jpg"
    said = BROKEN.format("ImportError: no symbol")
    assert done.stderr == f"effconv: warning: what TensorFlow computed, recorded, is used in its place. {said}"


def break_tensorflow(raised: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, importing TensorFlow raises that."""
    (folder / "tensorflow.py").write_text(f"raise {raised}\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)


@pytest.mark.tf
def test_a_tampered_weight_is_found_and_its_layer_named_first(tampered: Path) -> None:
    done = run("parity", *OF_TINY, "--candidate", tampered, "--backward")
    assert done.exit_code == 1
    first = done.stdout.splitlines()[0]
    assert "layers differ, first backbone.blocks.5.expand (efficientnet-b0/blocks_5/conv2d/Conv2D): float64" in first
    assert "of 339 gradients differ" in first


@pytest.mark.tf
def test_raw_weights_are_explained(tmp_path: Path) -> None:
    weights = tmp_path / "raw.safetensors"
    run("tf2torch", "--model", TINY / "config.json", "--ckpt", TINY, "-o", weights, "--weights", "raw")
    report = tmp_path / "report.json"
    done = run("parity", *OF_TINY, "--candidate", weights, "--explain", "--report", report)
    assert done.exit_code == 1
    record = json.loads(report.read_text())
    explained = [each["change"] for each in record["explanations"] if each["explains"]]
    assert explained == ["raw-weights"]
    assert "if the candidate computes with raw-weights" in done.stdout
    assert record["first_failure"] == "backbone.stem.conv"


def test_a_trace_of_another_port_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference pads its max-pools symmetrically: made to the candidate, that mistake removes every difference."""
    from effconv.effdet_torch.model import EfficientDet
    from effconv.parity.comparison import subject
    from effconv.parity.mistakes.network import CHANGES, changed
    from effconv.parity.traces.candidate_trace import CandidateTrace

    def other_port(model: EfficientDet, *arguments: object) -> CandidateTrace:
        return CandidateTrace(changed(model, CHANGES["no-same-maxpool"]), *arguments)

    trace = tmp_path / "port.npz"
    with monkeypatch.context() as patch:
        patch.setattr(subject, "CandidateTrace", other_port)
        assert run("trace", *OF_TINY, "--reference", "torch", "--float64", "-o", trace).exit_code == 0
    done = run("parity", *OF_TINY, "--reference", trace, "--explain")
    assert done.exit_code == 1
    assert "first bifpn.extra_levels.6 (resample_p6)" in done.stdout.splitlines()[0]
    explained = [line for line in done.stdout.splitlines() if line.startswith("explained")]
    assert len(explained) == 1
    assert "if the reference computes with no-same-maxpool" in explained[0]


@pytest.mark.tf
@pytest.mark.parametrize("float64", [True, False])
def test_a_recorded_trace_gives_the_same_verdict(float64: bool, tampered: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.npz"
    options = ["--float64"] if float64 else []
    made = run("trace", *OF_TINY, "--noise", 3, "--size", "130x129", "-o", trace, *options, "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["layers"] == 331
    good = run("parity", *OF_TINY, "--reference", trace)
    assert good.exit_code == 0, good.output
    assert "all 331 layers hold" in good.stdout
    live = json.loads(
        run("parity", *OF_TINY, "--candidate", tampered, "--noise", 3, "--size", "130x129", "--json").stdout
    )
    recorded = json.loads(run("parity", *OF_TINY, "--candidate", tampered, "--reference", trace, "--json").stdout)
    assert not live["ok"]
    # A millionth of one weight is near float32's noise: whether float32 alone shows it depends on the machine's
    # kernels, but what the live reference's float32 shows, its recording shows.
    if float64:
        assert recorded["first_failure"] == live["first_failure"] == "backbone.blocks.5.expand"
    for row, same in zip(recorded["rows"], live["rows"], strict=True):
        assert float64 == any(name.startswith("float64") for name in row["checks"])
        for name, check in row["checks"].items():
            # Noise measured against a float64 run is a little another number without one: by far less than a rounding.
            live_check = same["checks"][name]
            assert check["error"] == pytest.approx(live_check["error"], rel=0, abs=1e-9)
            # Without its float64 a recording cannot show that its own float32 noise is sound: its limit is no wider.
            assert check["limit"] <= live_check["limit"] + 1e-9
            assert not float64 or check["limit"] == pytest.approx(live_check["limit"], rel=0, abs=1e-9)
            assert check["ok"] is same["checks"][name]["ok"]
    # By name the tensor is another than the checkpoint's, whatever float32 shows.
    assert not recorded["ok"]
    assert [each["tensor"] for each in recorded["tensors"]["differ"]] == ["backbone.blocks.5.expand.weight"]


@pytest.mark.tf
def test_an_exported_graph_is_a_reference(tmp_path: Path) -> None:
    graph = frozen_graph(tmp_path / "model.pb")
    good = run("parity", *OF_TINY, "--reference", graph, "--json")
    assert good.exit_code == 0, good.output
    record = json.loads(good.stdout)
    assert record["reference"]["kind"] == "graph"
    assert record["reference"]["unpaired"] == []
    compared = [row for row in record["rows"] if row["checks"]]
    assert all(row["checks"]["float32 accumulated"]["noise"]["estimated"] for row in compared)
    assert len(compared) == record["reference"]["paired"] == 297
    folder = run("parity", *OF_TINY, "--reference", saved_model(tmp_path / "saved"))
    assert folder.exit_code == 0, folder.output
    recorded = tmp_path / "graph.npz"
    made = run("trace", *OF_TINY, "--reference", graph, "-o", recorded)
    assert made.exit_code == 0, made.output
    assert run("parity", *OF_TINY, "--reference", recorded).exit_code == 0


def test_reports_hold_every_layer(tmp_path: Path) -> None:
    markdown, record = tmp_path / "report.md", tmp_path / "report.json"
    for report in (markdown, record):
        assert run("parity", *OF_TINY, "--reference", RECORD, "--report", report).exit_code == 0
    rows = json.loads(record.read_text())["rows"]
    text = markdown.read_text()
    assert len([row for row in rows if row["checks"]]) == 130
    assert len(rows) == 331
    assert all(f"`{row['layer']}`" in text and f"`{row['official']}`" in text for row in rows)
    assert next(row for row in rows if row["checks"])["histogram"]["counts"]


def test_bad_input(tmp_path: Path) -> None:
    assert "expected HEIGHTxWIDTH" in refuse("parity", "--size", "512")
    assert "choose one (--image, --noise)" in refuse("parity", "--reference", "torch", "--image", "x", "--noise", 1)
    assert "brings its own images" in refuse("parity", *OF_TINY, "--reference", RECORD, "--noise", 1)
    assert "expected tf, torch, a trace" in refuse("parity", "--reference", "x.bin")
    assert "not a readable trace" in refuse("parity", "--reference", tmp_path / "absent.npz")
    assert "expected a file ending in .html" in refuse("parity", "--report", tmp_path / "x.txt")
    assert "name the model it is of" in refuse("parity", "--ckpt", TINY)
    assert "not a readable image" in refuse("parity", "--reference", "torch", "--image", tmp_path / "absent.jpg")
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    assert "not a readable image" in refuse("parity", "--reference", "torch", "--image", text)
    assert "too narrow" in refuse("parity", "--reference", "torch", "--size", "512x16")
    folder = tmp_path / "folder.npz"
    folder.mkdir()
    assert "cannot be written" in refuse("trace", "--reference", "torch", "-o", folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.npz", "text.jpg"]


def test_a_trace_of_another_model_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "tiny-lite"
    shutil.copytree(TINY.parent / "tiny-lite", other)
    trace = tmp_path / "trace.npz"
    made = run("trace", "--reference", "torch", "--model", other / "config.json", "--ckpt", other, "-o", trace)
    assert made.exit_code == 0, made.output
    model = ["--model", TINY / "config.json", "--ckpt", TINY]
    assert "a trace of tiny-lite, and the model asked for is tiny-swish" in refuse(
        "parity", *model, "--reference", trace
    )


@pytest.mark.slow
def test_a_fresh_process_compares_with_a_trace_without_importing_tensorflow(tmp_path: Path) -> None:
    trace = tmp_path / "trace.npz"
    assert run("trace", *OF_TINY, "--reference", "torch", "-o", trace).exit_code == 0
    code = (
        "import sys; from effconv.cli import main\n"
        f"main({['parity', *map(str, OF_TINY), '--reference', str(trace)]!r}, standalone_mode=False)"
    )
    report = f"try:\n exec({code!r})\nexcept SystemExit as stop:\n print(stop.code, 'tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", f"import sys\n{report}"], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr
