"""Every option of the commands about weights, and of those that list: it changes what comes of it, or it is refused.

The commands run as they are, on small files of each kind; `bad` files are those in which checks make a difference.
"""

import shutil
import types
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from option_values import given, options_of

from effconv.cli import main
from effconv.convert import zoo
from effconv.effdet_torch.engines import onnx_detector, onnx_export
from effconv.effdet_torch.engines import program as engines_program
from effconv.parity.comparison import exported
from effconv.parity.exporting import description, saved_model, tflite
from effconv.parity.exporting import program as exporting_program
from effconv.parity.traces.images import drawn
from effconv.parity.verification import demo

GOLDEN = Path(__file__).parent.parent / "golden"
TINY, OTHER = GOLDEN / "tiny-lite", GOLDEN / "tiny-swish"
DATA = "model.data-00000-of-00001"
CHECKED = {"verify"}  # options that matter for a damaged file alone
FINITE = {"allow_nonfinite"}


class Asked(NamedTuple):
    """In place of a release."""

    path: str


class Use(NamedTuple):
    """One way to use a command: its words, in which {name} is a file of that kind, and what has no part in it."""

    words: str
    refused: str = ""


CONFIG = f"--model {TINY / 'config.json'}"
USES = {
    "tf2torch of a release": Use(f"tf2torch {CONFIG}"),
    "tf2torch of a checkpoint": Use(f"tf2torch {CONFIG} --ckpt {{tf}}", "generation"),
    "tf2torch of an .h5": Use(f"tf2torch {CONFIG} --ckpt {{h5}}", "generation verify"),
    "torch2tf of our weights": Use("torch2tf {ours} -o out/model"),
    "torch2tf of a .pth": Use(f"torch2tf {{pth}} -o out/model {CONFIG}"),
    "torch2tf with averages": Use("torch2tf {ours} -o out/model --ema {ours}"),
    "torch2tf to Keras weights": Use("torch2tf {ours} -o out.h5"),
    "inspect a checkpoint": Use("inspect {tf}"),
    "inspect an .index alone": Use("inspect {index}", "verify"),
    "inspect an .h5": Use("inspect {h5}", "verify"),
    "inspect our weights": Use("inspect {ours}"),
    "inspect a .pth": Use("inspect {pth}", "verify"),
    "inspect another port's weights": Use("inspect {port}", "verify"),
    "inspect a graph": Use("inspect {onnx}", "verify"),
    "identify a checkpoint": Use("identify {tf}", "model"),
    "identify an .index alone": Use("identify {index}", "model verify"),
    "identify an .h5": Use("identify {h5}", "model verify"),
    "identify our weights": Use("identify {ours}"),
    "identify a .pth": Use(f"identify {{pth}} {CONFIG}"),
    "download": Use(f"download {CONFIG}"),
    "a configuration": Use("config d0"),
    "results": Use("results"),
    "speeds": Use("results --speed"),
    "demo": Use("demo"),
    "export of a release": Use(f"export onnx {CONFIG}"),
    "export of a checkpoint": Use(f"export onnx {CONFIG} --ckpt {{tf}}", "generation"),
    "export of an .h5": Use(f"export onnx {CONFIG} --ckpt {{h5}}", "generation verify"),
    "export of our weights": Use("export onnx --ckpt {ours}", "generation"),
    "export of the network alone": Use(
        "export onnx --ckpt {ours} --raw", "generation given min_score max_detections check_on no_check"
    ),
    "export without a check": Use("export onnx --ckpt {ours} --no-check", "generation check_on"),
    "export to TFLite": Use("export tflite --ckpt {ours}", "generation calibrate_on"),
    "export to TFLite in integers": Use(
        "export tflite --ckpt {ours} --precision int8 --calibrate-on {pictures}", "generation"
    ),
    "export to TFLite of the network alone": Use(
        "export tflite --ckpt {ours} --raw", "generation min_score max_detections check_on no_check calibrate_on"
    ),
    "export to a SavedModel": Use("export savedmodel --ckpt {ours} -o out", "generation"),
    "export to a SavedModel of the network alone": Use(
        "export savedmodel --ckpt {ours} -o out --raw", "generation min_score max_detections check_on no_check"
    ),
    "export of a program": Use("export pt2 --ckpt {ours}", "generation"),
    "export of a program of the network alone": Use(
        "export pt2 --ckpt {ours} --raw", "generation given min_score max_detections check_on no_check"
    ),
    "a folder of a release": Use(f"export hub {CONFIG} -o out"),
    "a folder of a checkpoint": Use(f"export hub {CONFIG} --ckpt {{tf}} -o out", "generation"),
    "a folder of an .h5": Use(f"export hub {CONFIG} --ckpt {{h5}} -o out", "generation verify"),
    "a folder of our weights": Use("export hub --ckpt {ours} -o out", "generation"),
    "a card": Use("card {ours} -o x.md"),
    "convert a checkpoint": Use(f"convert {{tf}} -o x.safetensors {CONFIG}", "function"),
    "convert an .h5": Use(f"convert {{h5}} -o x.safetensors {CONFIG}", "verify function"),
    "convert our weights": Use("convert {ours} -o x.pth", "function"),
    "convert a .pth": Use(f"convert {{pth}} -o x.safetensors {CONFIG}", "function"),
    "convert to TensorFlow": Use("convert {ours} -o out/model", "function"),
}
VALUES = {
    "model": str(OTHER / "config.json"),
    "generation": "coco",
    "names": "cat,dog",
    "system": "effdet",
    "split": "test-dev2017",
    "ema": "{other}",
    "ckpt": "{other}",
    "check_on": "{pictures}",
}
OUTPUTS = {
    "tf2torch": "y.safetensors",
    "onnx": "y.onnx",
    "tflite": "y.tflite",
    "pt2": "y.pt2",
    "convert": "y.safetensors",
    "torch2tf": "other/model",
    "card": "y.md",
}
# Given as part of the use, or refused by the name of what is.
ALREADY = {
    "speeds": {"speed"},
    "export of the network alone": {"raw"},
    "export without a check": {"no_check", "raw"},
    "export to TFLite in integers": {"precision", "calibrate_on", "check_on"},
    "export to TFLite of the network alone": {"raw"},
    "export to a SavedModel of the network alone": {"raw"},
    "export of a program of the network alone": {"raw"},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """{"sound", "damaged", "nan": {kind: path}}."""
    folder = tmp_path_factory.mktemp("files")
    found = {state: _files_of(folder / state, nan=state == "nan") for state in ("sound", "damaged", "nan")}
    for name in (f"tf/{DATA}", "ours.safetensors"):
        path = folder / "damaged" / name
        content = bytearray(path.read_bytes())
        content[-9] ^= 4
        path.write_bytes(content)
    return found


def _files_of(folder: Path, *, nan: bool) -> dict[str, str]:
    import h5py

    from effconv.convert.conversion import write_checkpoint
    from effconv.effdet_torch.config import get_config
    from effconv.loading import load
    from effconv.saving import write_state

    folder.mkdir()
    config = get_config(str(TINY / "config.json"))
    state = {key: value.numpy().copy() for key, value in load(TINY, model=config).state_dict().items()}
    averages = {key: (value + 1e-3).astype(np.float32) for key, value in state.items()}
    if nan:
        for values in (state, averages):
            values["backbone.stem.norm.bias"][0] = np.nan
    write_checkpoint(state, averages, config, folder / "tf" / "model", "test")
    (folder / "index").mkdir()
    shutil.copy(folder / "tf" / "model.index", folder / "index")
    shutil.copy(TINY / "tiny-lite.h5", folder / "x.h5")
    if nan:
        with h5py.File(folder / "x.h5", "r+") as file:
            file.visititems(
                lambda _, each: each.write_direct(np.full_like(each, np.nan)) if hasattr(each, "shape") else None
            )
    write_state(state, config, folder / "ours.safetensors", "effconv", {})
    others = {key: value + 1 for key, value in state.items()}
    write_state(others, config, folder / "other.safetensors", "effconv", {})
    tensors = {key: torch.from_numpy(value) for key, value in state.items()}
    means = {key: torch.from_numpy(value) for key, value in averages.items()}
    torch.save({"state_dict": tensors, "state_dict_ema": means}, folder / "x.pth")
    from safetensors.torch import save_file

    save_file(tensors, folder / "port.safetensors")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    ends = ([helper.make_tensor_value_info(name, kind, ["batch", 3])] for name in ("images", "sum"))
    bias = onnx.numpy_helper.from_array(np.ones(3, np.float32), "bias")
    graph = helper.make_graph([helper.make_node("Add", ["images", "bias"], ["sum"])], "small", *ends, [bias])
    onnx.save(onnx.helper.make_model(graph), folder / "x.onnx")
    (folder / "pictures").mkdir()
    (folder / "pictures" / "a.jpg").write_bytes(drawn(0, (24, 24)))
    names = {"h5": "x.h5", "ours": "ours.safetensors", "other": "other.safetensors", "pth": "x.pth"}
    names |= {
        "tf": "tf",
        "index": "index/model.index",
        "port": "port.safetensors",
        "onnx": "x.onnx",
        "pictures": "pictures",
    }
    return {kind: str(folder / name) for kind, name in names.items()}


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In place of the network, of what takes seconds, and of the detector that ships with effconv."""
    monkeypatch.chdir(tmp_path)

    def export(model: Any, path: Path, size: tuple[int, int]) -> None:
        total = sum(float(value.double().sum()) for value in model.state_dict().values())
        path.write_text(f"{model.config.name} {size} {total}")

    def export_detector(model: Any, path: Path, detecting: Any) -> None:
        export(model, path, detecting)

    def check_exported(graph: Path, model: Any, detecting: Any, pictures: list[bytes]) -> exported.ExportCheck:
        figures = {"missing": 0, "added": 0, "largest_box_difference": 0.0, "largest_score_difference": 0.0}
        return exported.ExportCheck(runtime="none", images=len(pictures), objects=1, **figures, ok=True)

    def described(model: Any, detecting: Any, *more: str) -> str:
        total = sum(float(value.double().sum()) for value in model.state_dict().values())
        return f"{model.config.name} {detecting} {total} {more}"

    def tflite_detector(model: Any, detecting: Any, *, raw: bool = False) -> Any:
        return types.SimpleNamespace(convert=lambda *_: b"raw" if raw else b"whole", output_names=[])

    def check_tflite(detector: Any, written: bytes, precision: str, *more: Any) -> tflite.TFLiteCheck:
        return tflite.TFLiteCheck(exact=check_exported(Path(), *more))

    def served_detector(model: Any, detecting: Any, *, raw: bool = False) -> Any:
        return types.SimpleNamespace(
            save=lambda folder: (folder / "saved_model.pb").write_text(f"{raw}"), output_names=[]
        )

    def check_saved_model(*given: Any) -> exported.ExportCheck:
        return check_exported(*given)

    def export_program(network: Any, path: Path, detecting: Any, files: dict[str, str]) -> None:
        path.write_text(f"{type(network).__name__} {files}")

    def run_demo(output: Path, *_: Any) -> dict[str, Any]:
        output.mkdir()
        (output / "index.html").touch()
        return {"model": "shapes", "ok": True, "steps": []}

    monkeypatch.setattr(zoo, "find_release", lambda config, generation: Asked(f"{config.name}-{generation}"))
    monkeypatch.setattr(onnx_export, "export_onnx", export)
    monkeypatch.setattr(onnx_detector, "export_detector", export_detector)
    monkeypatch.setattr(exported, "check_exported", check_exported)
    monkeypatch.setattr(demo, "run_demo", run_demo)
    for module, stand_in in (
        (tflite, tflite_detector),
        (tflite, check_tflite),
        (tflite, described),
        (saved_model, served_detector),
        (saved_model, check_saved_model),
        (saved_model, described),
    ):
        monkeypatch.setattr(module, stand_in.__name__, stand_in)
    monkeypatch.setattr(description, "described", described)
    monkeypatch.setattr(engines_program, "export_program", export_program)
    monkeypatch.setattr(exporting_program, "check_program", check_exported)


def outcome(words: list[str], folder: Path) -> tuple[int, str, str, dict[str, bytes]]:
    """(status, stdout, stderr, files written), in a folder that is empty before and after."""
    result = CliRunner().invoke(main, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    written = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return result.exit_code, result.stdout, result.stderr, written


def options(use: str) -> dict[str, click.Option]:
    name, second, *_ = [*USES[use].words.split(), ""]
    command = main.commands[name]
    found = options_of(command.commands[second] if isinstance(command, click.Group) else command)
    return {name: option for name, option in found.items() if name not in ALREADY.get(use, set())}


CASES = [(use, name) for use in USES for name in options(use)]


@pytest.mark.parametrize(("use", "name"), CASES)
def test_every_option_is_used_or_refused(
    use: str, name: str, files: dict[str, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option, refused = options(use)[name], USES[use].refused.split()
    state = "nan" if name in FINITE else "damaged" if name in CHECKED and name not in refused else "sound"
    words = [word.format_map(files[state]) for word in USES[use].words.split()]
    release = Path(files[state]["tf"])
    monkeypatch.setattr(
        zoo, "download", lambda asked, verify, report: zoo.Download(release, "", f"{asked.path}, {verify}")
    )
    values = VALUES | {"output": OUTPUTS.get(words[words[0] == "export"], "y")}
    if name == "weights" and "h5" in use:
        values["weights"] = "ema"  # there is one set: the raw one is what is taken anyway
    extra = [word.format_map(files[state]) for word in given(option, **values)]
    plain, found = outcome(words, tmp_path), outcome([*words, *extra], tmp_path)
    if name in refused:
        assert found[0] == 2
        assert found[1] == ""
        assert found[3] == {}
        lines = found[2].splitlines()
        assert f"{extra[0]}: not used by " in lines[-1] or f"{extra[0]} and --ckpt: choose one; " in lines[-1]
        assert len(lines) == 1
    elif name == "force":  # what is in the way of an output, if anything is
        assert found == plain
    else:
        assert found != plain
        assert "not used by" not in found[2]


def test_every_command_is_in_such_a_table() -> None:
    """Here, in `test_refusals.py` or in `test_parity_modes.py`; `models` has but --json."""
    elsewhere = {
        "parity",
        "predict",
        "eval",
        "train",
        "finetune",
        "trace",
        "verify",
        "ablate",
        "bench",
        "shapes",
        "check",
    }
    assert {*main.commands} - {use.words.split()[0] for use in USES.values()} == elsewhere | {"models"}
    assert set(options_of(main.commands["models"])) == {"as_json"}
