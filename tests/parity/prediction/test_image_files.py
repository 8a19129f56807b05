"""Which files are meant, and what is written for each."""

import os
from pathlib import Path

import pytest

from effconv.convert.output import OutputError
from effconv.errors import EffconvError
from effconv.parity.prediction.image_files import (
    SAMPLE,
    find_images,
    name_outputs,
    require_no_input_among,
    sampled_images,
)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.jpg", "deep/c.jpeg", "deep/d.webp", "[1].jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["."], ["[1].jpg", "a.png", "b.JPG"]),
        (["deep"], ["deep/c.jpeg", "deep/d.webp"]),
        (["*.png", "b.JPG"], ["a.png", "b.JPG"]),
        (["**/*.jpeg"], ["deep/c.jpeg"]),
        (["*"], ["[1].jpg", "a.png", "b.JPG", "notes.txt"]),
        (["[1].jpg"], ["[1].jpg"]),  # a file of that name, not a pattern
        (["b.JPG", ".", "deep/../b.JPG"], ["b.JPG", "[1].jpg", "a.png"]),
        (["absent.jpg"], ["absent.jpg"]),
    ],
)
def test_files_folders_and_globs(arguments: list[str], expected: list[str], tree: Path) -> None:
    assert [str(path) for path in find_images(arguments)] == expected


def test_a_sample_is_of_the_first_images(tmp_path: Path) -> None:
    names = [f"{number:02}.png" for number in range(SAMPLE + 1)]
    for name in reversed(names):
        (tmp_path / name).touch()
    assert [path.name for path in sampled_images(tmp_path)] == names[:-1]
    assert sampled_images(tmp_path / names[-1]) == [tmp_path / names[-1]]


def test_nothing_found_is_an_error(tree: Path) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(EffconvError, match="empty: expected images"):
        find_images(["a.png", "empty"])
    with pytest.raises(EffconvError, match=r"x\*\.jpg: no file matches"):
        find_images(["a.png", "x*.jpg"])


def test_outputs_never_collide_nor_escape() -> None:
    images = ["a/x.jpg", "b/x.jpg", "c/x-2.jpg", "d/X.JPG", "x.gif", "x.png", "../../etc/y.bmp", "/z.jpeg", "..", "a.b"]
    outputs = name_outputs([Path(image) for image in images], Path("out"))
    assert [path.name for path in outputs] == [
        "x.jpg",
        "x-2.jpg",
        "x-2-2.jpg",
        "X-3.JPG",
        "x.png",
        "x-2.png",
        "y.png",
        "z.jpeg",
        "...png",
        "a.png",
    ]
    assert {path.parent for path in outputs} == {Path("out")}
    assert len({path.name.casefold() for path in outputs}) == len(images)


def test_an_input_is_recognised_by_any_path(tree: Path) -> None:
    (tree / "soft.png").symlink_to(tree / "a.png")
    os.link(tree / "a.png", tree / "hard.png")
    for name in ("a.png", "deep/../a.png", "soft.png", "hard.png"):
        with pytest.raises(OutputError, match=r"would overwrite the input a\.png"):
            require_no_input_among([tree / "new.png", tree / name], [Path("b.JPG"), Path("a.png")])
    require_no_input_among([tree / "new.png", tree / "b.JPG"], [Path("a.png"), Path("absent.jpg")])
