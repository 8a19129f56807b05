"""What cannot be written is refused before any work is done, by every command that writes."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from output_options import ALL

from effconv.cli import main
from effconv.commands.options import Output


def test_every_option_that_names_an_output_is_looked_at() -> None:
    assert len(ALL) > 20
    assert [(name, each.opts) for name, _, each in ALL if not isinstance(each.type, Output)] == []


@pytest.mark.parametrize(("name", "command", "option"), ALL, ids=lambda each: each if isinstance(each, str) else "")
def test_an_impossible_output_is_refused_at_once(
    name: str, command: click.Command, option: click.Parameter, tmp_path: Path
) -> None:
    assert isinstance(option.type, Output)
    (tmp_path / "file").write_text("the user's")
    ending = option.type.endings[0] if option.type.endings else ""
    impossible = tmp_path / "file" / f"x{ending}"
    # Nothing else of the command line is given or there: had it been looked at first, another error would be told.
    found = CliRunner().invoke(main, [*name.split(), option.opts[-1], str(impossible)])
    assert found.exit_code == 2
    assert f"{impossible}: cannot be written ({tmp_path / 'file'} is a file)" in found.stderr
    assert (tmp_path / "file").read_text() == "the user's"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ablate", "--all", "--report", "x.pdf"), "--report x.pdf: expected a file ending in .html, .htm"),
        (("parity", "--report", "x.txt"), "--report x.txt: expected a file ending in .html, .md, .json"),
        (("tf2torch", "--model", "d0", "-o", "x.pth"), "--output x.pth: expected a file ending in .safetensors"),
        (("predict", "-o", "file", "x.jpg"), "file: cannot be written (it is a file)"),
        (("eval", "--coco", ".", "--detections", "folder"), "folder: cannot be written (it is a directory)"),
    ],
)
def test_endings_files_and_folders_are_told_apart(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    found = CliRunner().invoke(main, arguments)
    assert (found.exit_code, found.stdout) == (2, "")
    assert message in found.stderr
