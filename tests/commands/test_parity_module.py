"""`effconv parity --module` and `--port`, as they are typed."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from effconv.cli import main
from effconv.parity.mistakes.network import CHANGES

HELPERS = Path(__file__).parent.parent / "helpers"
SWISH = Path(__file__).parent.parent / "golden" / "tiny-swish"
MODEL = ("--model", str(SWISH / "config.json"), "--ckpt", str(SWISH))
BUILD = """
from pathlib import Path
import torch
from strange_port import StrangePort, with_weights_of
from tiny_models import load_tiny

def build(padding=float("-inf")):
    kind = type("Theirs", (StrangePort,), {"pool_padding": padding})
    return with_weights_of(load_tiny(Path(FOLDER)), kind)

def rounded():
    class Rounded(StrangePort):
        def forward(self, images):
            return super().forward(images if images.dtype == torch.float64 else images.half().float())
    return with_weights_of(load_tiny(Path(FOLDER)), Rounded)

ready = build()
number = 7

def fail():
    raise ValueError("no weights at hand")
"""


@pytest.fixture(autouse=True)
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "somebodys.py").write_text(BUILD.replace("FOLDER", repr(str(SWISH))))
    monkeypatch.chdir(tmp_path)


def run(*options: str) -> Result:
    return CliRunner().invoke(main, ["parity", *MODEL, *options])


@pytest.mark.parametrize("name", ["somebodys:build", "somebodys:ready"])
def test_a_right_module_holds(name: str) -> None:
    result = run("--module", name)
    assert result.exit_code == 0, result.output
    assert "layers hold" in result.stdout.splitlines()[0]
    assert "because its weight is ours" in result.stdout


def test_a_mistake_is_named(tmp_path: Path) -> None:
    options = ("--args", '{"padding": 0.0}', "--explain", "--report", "page.html")
    result = run("--module", "somebodys:build", *options)
    assert result.exit_code == 1, result.output
    assert "explained: if the candidate computes with zero-padded-maxpool" in result.stdout
    assert " other known mistakes were tried and excluded" in result.stdout
    assert "zero-padded-maxpool" in (tmp_path / "page.html").read_text()
    record = json.loads(run("--module", "somebodys:build", *options[:3], "--json").stdout)
    assert [each["change"] for each in record["explanations"]] == ["zero-padded-maxpool"]
    tried = {each["change"]: each for each in record["tried"]}
    assert set(tried) == set(CHANGES)
    assert tried["zero-padded-maxpool"]["effect"] == "explains"
    assert {each["effect"] for each in tried.values()} >= {"explains", "worse", "not tried"}
    assert all((each["side"] is None) is bool(each.get("reason")) for each in tried.values())
    assert record["pairing"][0] == {
        "layer": "backbone.stem.conv",
        "module": "entry.filters.0",
        "call": 0,
        "evidence": "its weight is ours",
    }


def test_a_network_that_is_wrong_in_float32_alone_says_so() -> None:
    result = run("--module", "somebodys:rounded", "--explain")
    assert result.exit_code == 1, result.output
    assert "not explained: in float64 no layer differs" in " ".join(result.stdout.split())


def test_the_help_names_what_takes_explain() -> None:
    said = " ".join(run("--help").stdout.split())
    assert "--explain names the porting mistakes of --port and --module, and of an ONNX graph" in said
    assert "--candidate-trace, another network is compared with effconv's, and --explain" not in said


def test_names_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text(json.dumps({"backbone.stem.conv": "entry.filters.0"}))
    result = run("--module", "somebodys:build", "--names", "names.json")
    assert result.exit_code == 0, result.output
    assert "1 because you say so" in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--module", "somebodys"), "expected PACKAGE.MODULE:NAME"),
        (("--module", "nobodys:build"), "cannot be built: ModuleNotFoundError: No module named 'nobodys'"),
        (("--module", "somebodys:other"), "cannot be built: AttributeError"),
        (("--module", "somebodys:number"), "expected a torch.nn.Module, found int"),
        (("--module", "somebodys:fail"), "cannot be built: ValueError: no weights at hand"),
        (("--module", "somebodys:build", "--args", "{"), "arguments: not JSON"),
        (("--module", "somebodys:build", "--args", "[]"), "arguments: expected a JSON object"),
        (("--module", "somebodys:build", "--names", "somebodys.py"), "somebodys.py: cannot be read as JSON"),
        (("--module", "somebodys:build", "--port", "effdet"), "--port and --module: choose one"),
        (("--port", "effdet", "--args", "{}"), "--args: not used by --port"),
        (("--module", "somebodys:build", "--backward"), "--backward: not used by --port or --module"),
        (("--port", "mmdetection"), "only effdet, zylo117, pytorch-tools can"),
    ],
)
def test_what_is_refused(options: tuple[str, ...], message: str) -> None:
    result = run(*options)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.split()), result.stderr
    assert "Traceback" not in result.output


def test_a_port_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "effdet", None)
    result = run("--port", "effdet")
    assert (result.exit_code, "pip install effdet" in result.stderr) == (2, True), result.output
