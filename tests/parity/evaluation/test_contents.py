"""Kept results are used again only for the same pictures and by the same code."""

import ast
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from effconv.errors import EffconvError
from effconv.parity.ablation.run import Ablator, run_study
from effconv.parity.ablation.study import Study
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.distributed import Group
from effconv.parity.evaluation import contents
from effconv.parity.evaluation.contents import COMPUTING, PACKAGE, code_digest, code_files
from effconv.parity.evaluation.detect import Running, detect
from effconv.parity.evaluation.pipeline import Settings, build
from evaluation_runs import SWISH
from small_images import write_pictures
from tiny_models import load_tiny

# What those of COMPUTING import without computing a result by it.
NOT_COMPUTING = {
    "ablation/finished_rows",
    "ablation/record",
    "ablation/waterfall",
    "datasets/examination",
    "engine_choice",
    "evaluation/contents",
    "evaluation/evaluate",
    "evaluation/finished",
    "evaluation/unfinished",
    "provenance",
}
COUNT = 3


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Bitmaps, whose files are as large whatever they show."""
    folder = write_pictures(tmp_path / "pictures", COUNT)
    annotations = next((folder / "annotations").glob("*.json"))
    content = json.loads(annotations.read_text())
    for image in content["images"]:
        name = Path(image["file_name"]).with_suffix(".bmp").name
        with Picture.open(folder / "val2017" / image["file_name"]) as picture:
            picture.convert("RGB").save(folder / "val2017" / name)
        image["file_name"] = name
    annotations.write_text(json.dumps(content))
    return folder


def replace_one(folder: Path) -> None:
    """Another picture in the first file, of the same size and time."""
    path = read_dataset(folder).images[0].path
    before = path.stat()
    with Picture.open(path) as picture:
        Picture.fromarray(np.asarray(picture)[::-1]).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.fixture
def other_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Calling it makes the installed code that of a copy with one more comment in one file of the network."""
    copy = tmp_path / "copy"
    for path in code_files():
        (copy / path.relative_to(PACKAGE)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy / path.relative_to(PACKAGE))

    def change(name: str = "effdet_torch/ops.py") -> None:
        with (copy / name).open("a") as file:
            file.write("# another\n")
        monkeypatch.setattr(contents, "PACKAGE", copy)
        code_digest.cache_clear()

    yield change
    code_digest.cache_clear()


def ablated(pictures: Path, cache: Path) -> tuple[int, np.ndarray]:
    """How many entries the cache has after the baseline's outputs were asked for, and their logits."""
    study = Study(coco=pictures, model=str(SWISH / "config.json"), checkpoint=SWISH, batch=COUNT, cache=cache)
    ablator = Ablator(study, cache, Group())
    found = ablator.cached(ablator.baseline, []).outputs.logits
    return len(list(cache.iterdir())), np.array(found)


def test_outputs_are_of_the_pictures_as_they_are(pictures: Path, tmp_path: Path) -> None:
    entries, before = ablated(pictures, tmp_path / "cache")
    assert ablated(pictures, tmp_path / "cache")[0] == entries  # nothing changed, nothing anew
    replace_one(pictures)
    again, after = ablated(pictures, tmp_path / "cache")
    assert again == 2 * entries
    assert not np.array_equal(before[0], after[0])
    assert np.array_equal(before[1:], after[1:])
    assert np.array_equal(after, ablated(pictures, tmp_path / "other")[1])


def test_outputs_are_of_the_code_as_it_is(pictures: Path, tmp_path: Path, other_code: Any) -> None:
    entries, _ = ablated(pictures, tmp_path / "cache")
    other_code()
    assert ablated(pictures, tmp_path / "cache")[0] == 2 * entries


@pytest.mark.parametrize("change", ["pictures", "code"])
def test_rows_of_other_pictures_or_code_are_refused(
    change: str, pictures: Path, tmp_path: Path, other_code: Any
) -> None:
    study = Study(coco=pictures, model=str(SWISH / "config.json"), checkpoint=SWISH, batch=COUNT, resamples=5)
    study = dataclasses.replace(study, rows=tmp_path / "record.json", resume=True)
    run_study(study, [], "", lambda row: None)
    run_study(study, [], "", lambda row: None)
    if change == "code":
        other_code("parity/ablation/significance.py")
    else:
        replace_one(pictures)
    with pytest.raises(EffconvError, match=f"of another run: {change}_sha256 was"):
        run_study(study, [], "", lambda row: None)


@pytest.fixture
def evaluated(pictures: Path, tmp_path: Path) -> Any:
    """Detections of the pictures, gone on with from whatever earlier calls left; and how many images were done."""
    model, parts = load_tiny(SWISH), tmp_path / "parts"

    def run(**changes: Any) -> tuple[int, list[np.ndarray]]:
        config = dataclasses.replace(model.config, **changes)
        model.config = config
        running, dataset = Running(parts=parts, workers=0, resume=True), read_dataset(pictures)
        earlier = sum(file.read_bytes().count(b'"image_id"') for file in parts.glob("*"))
        results = detect(model, build(config, Settings()), dataset, dataset.images, running, Group())
        done = sum(file.read_bytes().count(b'"image_id"') for file in parts.glob("*")) - earlier
        return done, [each.detections for each in results]

    return run


def test_an_evaluation_goes_on_with_the_pictures_as_they_are(evaluated: Any, pictures: Path) -> None:
    done, before = evaluated()
    assert done == COUNT
    assert evaluated()[0] == 0
    replace_one(pictures)
    done, after = evaluated()
    assert done == 1
    assert not np.array_equal(before[0], after[0])
    assert all(np.array_equal(one, other) for one, other in zip(before[1:], after[1:], strict=True))


def test_an_evaluation_by_other_code_is_refused(evaluated: Any, other_code: Any) -> None:
    evaluated()
    other_code()
    with pytest.raises(EffconvError, match="of another run: code_sha256 was"):
        evaluated()


def test_an_evaluation_of_another_configuration_is_refused(evaluated: Any) -> None:
    """The same weights with larger anchors find other boxes."""
    evaluated()
    with pytest.raises(EffconvError, match=r"of another run: anchor_scale was 4.0, now 5.0"):
        evaluated(anchor_scale=5.0)


def test_all_code_that_computes_is_counted() -> None:
    """A module that one of them comes to import must be named there, or here as one that computes nothing."""
    assert all(path.is_file() for path in code_files())
    for name in COMPUTING:
        tree = ast.parse((PACKAGE / "parity" / f"{name}.py").read_text())
        folder = ("parity", *name.split("/")[:-1])
        imported = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and 0 < node.level <= len(folder) + 1:
                base = (*folder[: len(folder) - node.level + 1], *(node.module.split(".") if node.module else ()))
                places = [base] if node.module else [(*base, alias.name) for alias in node.names]
                imported |= {"/".join(place[1:]) for place in places if place[0] == "parity"}
        assert imported <= {*COMPUTING, *NOT_COMPUTING}, name
