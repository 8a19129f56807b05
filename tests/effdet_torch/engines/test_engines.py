"""Every engine computes what the model does: beside it in float64, on the command line, and in evaluations."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from single_precision import plant, tf32

from effconv.cli import main
from effconv.commands import engine_options as command_options
from effconv.effdet_torch.engines.choice import AUTO
from effconv.effdet_torch.engines.convolution import PointwiseConv2d
from effconv.effdet_torch.engines.engines import ENGINES, make_engine
from effconv.effdet_torch.engines.onnx_export import export_onnx, output_names
from effconv.effdet_torch.model import EfficientDet
from effconv.errors import EffconvError
from effconv.parity.comparison import engine as engine_parity
from effconv.parity.comparison.engine import Case, engine_rows, output_error
from effconv.parity.comparison.engine_record import EngineRecord, engine_lines
from effconv.parity.comparison.records import Candidate
from effconv.strict_json import json_text
from small_images import write_pictures
from tiny_models import load_tiny

GOLDEN = Path(__file__).parents[2] / "golden"
SWISH = GOLDEN / "tiny-swish"
NEEDS = {"onnxruntime": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino")}

RECORD = EngineRecord(
    what="",
    command="",
    model="m",
    checkpoint="",
    candidate=Candidate(label=""),
    engine="fast",
    images="",
    cases=(),
    threads=1,
    layers_watched="",
    first_unsound=None,
    rows=(),
    float64_error=None,
    float64_limit=1e-9,
    ok=False,
    provenance={},
)


def require(engine: str) -> None:
    for package in NEEDS.get(engine, ()):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install onnx onnxscript onnxruntime openvino")


def noise(*size: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(2))


def test_the_command_line_offers_them_all() -> None:
    assert command_options.ENGINES == ENGINES
    assert command_options.AUTO == AUTO


@pytest.mark.parametrize("engine", ["eager", "fast", "onnxruntime", "openvino"])
@pytest.mark.parametrize(("name", "size"), [("tiny-swish", (97, 131)), ("tiny-lite", (64, 64))])
def test_an_engine_is_within_the_noise(engine: str, name: str, size: tuple[int, int]) -> None:
    require(engine)
    model = load_tiny(GOLDEN / name)
    rows = engine_rows(model, engine, Case(noise(*size)), model)
    assert len(rows) == 2 * len(model.config.levels)
    assert [row for row in rows if not row.holds] == []
    assert next(model.parameters()).dtype == torch.float32


@pytest.mark.slow
def test_compiled() -> None:
    model = load_tiny(SWISH)
    try:
        make_engine("compile", model, (64, 64))(noise(64, 64))
    except Exception as error:  # whatever the compiler's absence is called
        if "compiler" in str(error).lower():
            pytest.skip(f"torch.compile needs a C++ compiler: {str(error).splitlines()[0]}")
        raise
    assert [row for row in engine_rows(model, "compile", Case(noise(64, 64)), model) if not row.holds] == []


def test_an_engine_that_differs_is_found() -> None:
    """A fault of a thousandth in one kernel of the engine alone."""
    model, other = load_tiny(SWISH), load_tiny(SWISH)
    with torch.no_grad():
        other.box_head.predict.pointwise.weight[0] *= 1.001
    rows = engine_rows(model, "fast", Case(noise(64, 64)), model)
    assert all(row.holds for row in rows)
    with torch.inference_mode():
        truth, wrong = model.double()(noise(64, 64).double()), make_engine("fast", other, (64, 64))(noise(64, 64))
    limits = {row.output: row.limit for row in rows}
    for level, one, two in zip(model.config.levels, wrong[1], truth[1], strict=True):
        assert output_error(one, two) > limits[f"box_outputs/{level}"]
    for level, one, two in zip(model.config.levels, wrong[0], truth[0], strict=True):
        assert output_error(one, two) <= limits[f"class_outputs/{level}"]


@pytest.mark.parametrize("bad", [torch.full((1, 2), float("nan")), torch.zeros(2, 1)], ids=["NaN", "shape"])
def test_nan_and_other_shapes_are_errors(bad: torch.Tensor) -> None:
    assert output_error(bad, torch.ones(1, 2)) == float("inf")


def test_outputs_that_are_not_finite_do_not_hold() -> None:
    """Neither side's: what cannot be measured is None in the record, and no limit."""
    model, broken = load_tiny(SWISH), load_tiny(SWISH)
    with torch.no_grad():
        broken.box_head.predict.pointwise.bias[0] = float("nan")
    for truth in (model, broken):
        rows = engine_rows(broken, "fast", Case(noise(64, 64)), truth)
        boxes = [row for row in rows if row.output.startswith("box")]
        assert {row.error for row in boxes} == {None}
        assert not any(row.holds for row in boxes)
        lines = engine_lines(replace(RECORD, rows=tuple(rows)))
        assert sum("error none" in line for line in lines) == len(boxes)
        assert lines[-1] == "  in float64 none, limit 1e-09"


def test_an_exported_graph(tmp_path: Path) -> None:
    require("onnxruntime")
    import onnx

    model, path = load_tiny(SWISH), tmp_path / "model.onnx"
    export_onnx(model, path, (64, 96) if model.config.max_level < 7 else (64, 64))
    graph = onnx.load(path).graph
    assert [each.name for each in graph.output] == output_names(model)
    shape = graph.input[0].type.tensor_type.shape.dim
    assert (shape[0].dim_param != "", [axis.dim_value for axis in shape[1:]]) == (True, [3, 64, 64])
    operations = {node.op_type for node in graph.node}
    assert "BatchNormalization" not in operations
    assert not {"MatMul", "Transpose"} & operations  # 1x1 convolutions are convolutions there


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


MODEL = ("--model", SWISH / "config.json", "--ckpt", SWISH)


def test_parity_of_an_engine() -> None:
    result = run("parity", *MODEL, "--engine", "fast", "--size", "64x64")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("tiny-swish by fast: all 30 outputs are the model's")
    assert "batches 1 x 64x64, 3 x 33x33, 8 x 32x32; layers looked at" in result.stdout
    assert "in float64" in result.stdout


def test_a_failure_is_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_parity, "accumulated_limit", lambda expected: 1e-9)
    result = run("parity", *MODEL, "--engine", "fast", "--size", "64x64", "--json")
    assert result.exit_code == 1
    record = EngineRecord.read(json.loads(result.stdout))
    assert (record.ok, record.engine) == (False, "fast")
    assert json_text(record.plain()) == json_text(json.loads(result.stdout))
    text = run("parity", *MODEL, "--engine", "fast", "--size", "64x64").stdout
    assert "outputs differ by more than rounding, first class_outputs/3 of 1 x 64x64" in text


@pytest.mark.parametrize("fault", ["zeros from all depthwise kernels", "TF32 inputs of an expansion"])
def test_a_fault_of_the_model_s_float32_is_named(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own noise once was the limit of the engine's."""
    from effconv.parity.comparison.subject import Subject

    model = load_tiny(SWISH)
    where = plant(model, fault)
    monkeypatch.setattr(Subject, "load", lambda self: model)
    # The fast form refuses exchanged parts; kernels that are wrong for one precision do not show to it.
    monkeypatch.setattr("effconv.effdet_torch.engines.fast._require_plain", lambda model, plain: None)
    result = run("parity", *MODEL, "--engine", "fast", "--size", "64x64")
    assert result.exit_code == 1
    assert f"not sound, first {where}, on 1 x 64x64: its float32 differs" in result.stdout


def test_a_fast_path_that_is_wrong_in_float32_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quicker ways of 1x1 convolutions exist in float32 alone: float64 comparisons never take them."""
    right = PointwiseConv2d.forward

    def wrong(self: PointwiseConv2d, x: torch.Tensor) -> torch.Tensor:
        found = right(self, x)
        return tf32(found) if x.dtype == torch.float32 and x.shape[2] % 2 else found

    monkeypatch.setattr(PointwiseConv2d, "forward", wrong)
    result = run("parity", *MODEL, "--engine", "fast", "--size", "64x64")
    assert result.exit_code == 1
    assert "not sound, first the fast form's" in result.stdout
    assert "in float64" in result.stdout


def test_an_engine_wrong_for_one_batch_size_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(torch.nn.Module):
        def __init__(self, model: EfficientDet):
            super().__init__()
            self.model = model

        def forward(self, images: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
            logits, codes = self.model(images)
            return [each.roll(1, 0) if len(images) == 8 else each for each in logits], codes

    monkeypatch.setattr(engine_parity, "make_engine", lambda name, model, size: Wrong(model))
    result = run("parity", *MODEL, "--engine", "onnxruntime", "--size", "64x64")
    assert result.exit_code == 1
    assert "first class_outputs/3 of 8 x 32x32" in result.stdout


def test_the_candidate_given_is_what_is_tested(tmp_path: Path) -> None:
    """`--candidate` once was left aside, and the checkpoint's own weights tested."""
    model = load_tiny(SWISH)
    for weight in model.parameters():
        weight.data.zero_()
    torch.save(model.state_dict(), tmp_path / "zeroed.pth")
    words = ("parity", *MODEL, "--engine", "fast", "--size", "64x64", "--candidate", tmp_path / "zeroed.pth", "--json")
    result = run(*words)
    record = json.loads(result.stdout)
    assert (result.exit_code, record["candidate"]["weights"]) == (1, "zeroed.pth")
    assert not any(row["holds"] for row in record["rows"])


def test_an_evaluation_by_an_engine(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    words = ("eval", "--coco", pictures, *MODEL, "--limit", 3, "--workers", 0, "--json")
    plain, fast = (json.loads(run(*words, "--engine", engine).stdout) for engine in ("eager", "fast"))
    assert (plain["network_engine"], fast["network_engine"]) == ("eager", "fast")
    assert fast["detections"] == plain["detections"]


def test_a_run_is_not_resumed_by_another_engine(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    words = ("eval", "--coco", pictures, *MODEL, "--limit", 2, "--workers", 0, "--detections", tmp_path / "d.json")
    (tmp_path / "d.json.parts").mkdir()
    (tmp_path / "d.json.parts" / "0000-rank0.jsonl").write_text('{"engine": "eager"}\n')
    result = run(*words, "--resume", "--engine", "fast")
    assert (result.exit_code, "is of another run" in result.stderr) == (2, True)


def test_predictions_by_an_engine(tmp_path: Path) -> None:
    picture = sorted((write_pictures(tmp_path / "pictures") / "val2017").iterdir())[0]
    result = run("predict", picture, "-o", tmp_path / "found", *MODEL, "--engine", "fast", "--min-score", 0.1)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "found" / "detections.json").is_file()


def test_export(tmp_path: Path) -> None:
    require("onnxruntime")
    path = tmp_path / "tiny.onnx"
    result = run("export", "onnx", *MODEL, "--size", "64x64", "--raw", "-o", path, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert (record["input"], record["bytes"]) == (["batch", 3, 64, 64], path.stat().st_size)


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("export", "onnx", *MODEL, "-o", tmp_path / "tiny.pb")
    assert (result.exit_code, "expected a file ending in .onnx" in result.stderr) == (2, True)
    result = run("export", "onnx", "--ckpt", SWISH)
    assert (result.exit_code, "name the model to export" in result.stderr) == (2, True)
    with pytest.raises(ValueError, match="engine must be one of"):
        make_engine("tensorrt", load_tiny(SWISH), (64, 64))
    with pytest.raises(EffconvError, match="computes on the CPU"):
        make_engine("openvino", load_tiny(SWISH).to("meta"), (64, 64))
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    result = run("export", "onnx", *MODEL, "-o", tmp_path / "tiny.onnx")
    assert (result.exit_code, "pip install onnx onnxscript" in result.stderr) == (2, True)
    assert not (tmp_path / "tiny.onnx").exists()
