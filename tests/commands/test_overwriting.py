"""Nothing that effconv did not write is overwritten unasked; what it wrote is, so that a command can be run again."""

import json
import shutil
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from output_options import ALL
from PIL import Image

from effconv.cli import main
from effconv.commands.options import Output
from effconv.convert import output_kinds
from effconv.convert.output_kinds import Kind, may_replace
from effconv.convert.sources import open_checkpoint
from effconv.parity.datasets.shapes import write_shapes
from effconv.parity.evaluation.coco import write_detections
from effconv.parity.pictures import write_picture
from effconv.parity.rendering.record import write_record

TINY = Path(__file__).parent.parent / "golden" / "tiny-lite"
OF_TINY = ("--model", TINY / "config.json", "--ckpt", TINY)
THEIRS = "the user's"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refuse(path: Path, *arguments: object) -> str:
    """Run a command that would overwrite `path`, which is refused in one line and left as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(THEIRS)
    before = sorted(path.parent.rglob("*"))
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr.startswith(f"effconv: {path}: exists, and is not ")
    assert result.stderr.endswith("that effconv wrote; choose another output, or replace it with --force\n")
    assert len(result.stderr.splitlines()) == 1
    assert path.read_text() == THEIRS
    assert sorted(path.parent.rglob("*")) == before
    return result.stderr


FILES = [each for each in ALL if isinstance(each[2].type, Output) and not each[2].type.folder]


def test_every_output_file_has_a_kind_and_its_command_has_force() -> None:
    assert len(FILES) > 15
    for name, command, option in ALL:
        assert isinstance(option.type, Output)
        assert option.type.folder or isinstance(getattr(output_kinds, option.type.kind), Kind), name
        assert option.opts[-1] == "--cache" or "--force" in {text for each in command.params for text in each.opts}, (
            name
        )


@pytest.mark.parametrize(("name", "command", "option"), FILES, ids=lambda each: each if isinstance(each, str) else "")
def test_a_file_of_the_users_is_refused_at_once(
    name: str, command: click.Command, option: click.Parameter, tmp_path: Path
) -> None:
    assert isinstance(option.type, Output)
    path = tmp_path / f"x{option.type.endings[0] if option.type.endings else ''}"
    # Nothing else of the command line is given: had any work been done first, another error would be told.
    refuse(path, *name.split(), option.opts[-1], path)


def test_a_manifest_replaces_no_other_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = json.loads((TINY / "config.json").read_text()) | {"name": "mine"}
    Path("mine.json").write_text(json.dumps(config))
    Path("keep.json").write_text(THEIRS)
    assert run("tf2torch", "--model", "mine.json", "--ckpt", TINY).exit_code == 0
    assert run("tf2torch", "--model", "mine.json", "--ckpt", TINY, "-o", "keep.safetensors").exit_code == 0
    assert json.loads(Path("mine.json").read_text()) == config
    assert Path("keep.json").read_text() == THEIRS
    refuse(Path("other.manifest.json"), "tf2torch", *OF_TINY, "-o", "other.safetensors")
    refuse(Path("mine.safetensors"), "tf2torch", "--model", "mine.json", "--ckpt", TINY)
    assert run("tf2torch", "--model", "mine.json", "--ckpt", TINY, "--force").exit_code == 0


def test_weights_and_checkpoints_are_replaced_by_their_own_command(tmp_path: Path) -> None:
    weights, folder = tmp_path / "x.safetensors", tmp_path / "exported"
    for _ in range(2):
        assert run("tf2torch", *OF_TINY, "-o", weights).exit_code == 0
        assert run("torch2tf", weights, "-o", folder / "mine").exit_code == 0
    assert open_checkpoint(folder).path == folder / "mine"


@pytest.mark.parametrize("name", ["checkpoint", "model.index", "model.data-00000-of-00001"])
def test_a_checkpoint_of_the_users_is_left_alone(name: str, tmp_path: Path) -> None:
    weights, folder = tmp_path / "x.safetensors", tmp_path / "training"
    assert run("tf2torch", *OF_TINY, "-o", weights).exit_code == 0
    refuse(folder / name, "torch2tf", weights, "-o", folder / "model")
    shutil.rmtree(folder)
    shutil.copytree(TINY, folder)
    assert "is not an exported checkpoint that effconv wrote" in run("torch2tf", weights, "-o", folder / "model").stderr
    assert (folder / name).read_bytes() == (TINY / name).read_bytes()


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_folder_is_written_into(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("tf2torch", *OF_TINY, "-o", "x.safetensors").exit_code == 0
    if not ending:
        Path("folder").mkdir()
    assert run("torch2tf", "x.safetensors", "-o", f"folder{ending}").exit_code == 0
    assert sorted(path.name for path in Path("folder").iterdir()) == [
        "checkpoint",
        "model.data-00000-of-00001",
        "model.index",
    ]
    assert sorted(path.name for path in Path().iterdir()) == ["folder", "x.manifest.json", "x.safetensors"]


IN_FOLDERS = {
    "predict": ((*OF_TINY, "images"), ("a.jpg", "detections.json", "images.json")),
    "shapes": (("--images", "3", "--size", "40x40"), ("val2017/000002.jpg", "annotations/instances_val2017.json")),
    "train": (
        ("--model", TINY / "config.json", "--data", "data"),
        ("model.safetensors", "raw.safetensors", "curve.png", "state.pth", "steps.csv", "evaluations.csv"),
    ),
    "export savedmodel": (OF_TINY, ("saved_model.pb",)),
    "demo": (
        (),
        ("demo.json", "index.html", "detections.json", "shapes.manifest.json", "pictures/val2017/000500.jpg"),
    ),
    "verify": (
        OF_TINY,
        (
            "verification.json",
            "verification.md",
            "verification.html",
            "layers.json",
            "detections.json",
            "tiny-lite.safetensors",
        ),
    ),
}


@pytest.mark.parametrize(
    ("command", "name"), [(command, name) for command, (_, names) in IN_FOLDERS.items() for name in names]
)
def test_a_file_of_the_users_in_a_folder_is_refused_at_once(
    command: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    Image.new("RGB", (40, 40)).save("images/a.jpg")
    refuse(Path("out", name), *command.split(), "--out" if command == "train" else "-o", "out", *IN_FOLDERS[command][0])


def test_a_folder_of_its_own_is_written_again(tmp_path: Path) -> None:
    pictures, found = tmp_path / "pictures", tmp_path / "found"
    for _ in range(2):
        assert run("shapes", "-o", pictures, "--images", "2", "--size", "64x64").exit_code == 0
        done = run("predict", pictures / "val2017", *OF_TINY, "-o", found, "--min-score", "0")
        assert done.exit_code == 0, done.output
    (found / "images.json").write_text(THEIRS)
    forced = run("predict", pictures / "val2017", *OF_TINY, "-o", found, "--force")
    assert forced.exit_code == 0
    assert len(json.loads((found / "images.json").read_text())["images"]) == 2


def test_what_effconv_writes_is_known_and_what_looks_like_it_is_not(tmp_path: Path) -> None:
    picture = Image.new("RGB", (8, 8))
    write_picture(picture, tmp_path / "a.png", "PNG")
    write_picture(picture, tmp_path / "a.jpg", "JPEG", quality=90)
    picture.save(tmp_path / "b.png")
    picture.save(tmp_path / "b.jpg")
    write_record({"what": "x", "provenance": {"effconv": "0"}}, tmp_path / "a.json")
    (tmp_path / "b.json").write_text('{"what": "x", "provenance": {"torch": "0"}}')
    rows = np.array([[1, 2, 3, 4, 5, 0.5, 7], [1, 2, 3, 4, 5, 0.25, 7]])
    for number, name in enumerate(("none", "one", "two")):
        write_detections(rows[:number], tmp_path / f"a-{name}.json")
        assert may_replace(tmp_path / f"a-{name}.json", output_kinds.DETECTIONS), name
    (tmp_path / "b-two.json").write_text(json.dumps(json.loads((tmp_path / "a-two.json").read_text())))
    write_shapes(tmp_path / "shapes", "val2017", 1, 0, (64, 64))
    for name, file in (("a", "a.pth"), ("b", "other.pth")):
        manifest = {"effconv": "0", "model": "x", "source": {}, "config": {}, "file": file}
        (tmp_path / f"{name}.pth.manifest.json").write_text(json.dumps(manifest))
        (tmp_path / f"{name}.pth").write_bytes(b"weights")
    for name, kind, known in (
        ("a.png", output_kinds.PICTURE, True),
        ("a.jpg", output_kinds.PICTURE, True),
        ("b.png", output_kinds.PICTURE, False),
        ("b.jpg", output_kinds.PICTURE, False),
        ("a.json", output_kinds.RECORD, True),
        ("b.json", output_kinds.RECORD, False),
        ("a.json", output_kinds.MANIFEST, False),  # another kind of ours
        ("b-two.json", output_kinds.DETECTIONS, False),
        ("shapes/annotations/instances_val2017.json", output_kinds.ANNOTATIONS, True),
        ("shapes/annotations/instances_val2017.json", output_kinds.IMAGE_LIST, False),
        ("nothing-there.json", output_kinds.RECORD, True),
        ("a.pth", output_kinds.PORT_WEIGHTS, True),
        ("b.pth", output_kinds.PORT_WEIGHTS, False),  # the manifest is of another file
    ):
        assert may_replace(tmp_path / name, kind) is known, (name, kind.name)
    embedded = Path(__file__).parents[2] / "examples" / "shapes" / "trace.npz"
    assert may_replace(embedded, output_kinds.TRACE)
    np.savez(tmp_path / "b.npz", header=np.zeros(3))
    assert not may_replace(tmp_path / "b.npz", output_kinds.TRACE)
    (tmp_path / "empty").touch()
    kinds = [each for each in vars(output_kinds).values() if isinstance(each, Kind)]
    assert len(kinds) == 19
    for kind in kinds:
        assert may_replace(tmp_path / "empty", kind)
        for content in (b"x", b"\x00" * 99, b"\xff" * 99, b"[" * 9999, b"{}", b"[]", b"PK\x03\x04" * 9):
            (tmp_path / "theirs").write_bytes(content)
            assert not may_replace(tmp_path / "theirs", kind), (kind.name, content[:9])
