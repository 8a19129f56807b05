"""`effconv verify` against a server on loopback: a golden checkpoint and real images stand in for what is released."""

import dataclasses
import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from score_records import RECORD, REPRODUCED

from effconv.cli import main
from effconv.convert import zoo
from effconv.convert.conversion import Conversion, write_weights
from effconv.convert.output_kinds import PAGE_MARK
from effconv.effdet_torch.config import get_config
from effconv.parity.comparison.records import ComparisonRecord
from effconv.parity.datasets import coco_archives
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.evaluation import contents, published, published_rows
from effconv.parity.evaluation.coco import METRICS
from effconv.parity.evaluation.published_rows import PublishedRow
from effconv.parity.rendering.html import render
from effconv.parity.verification import verify as verification
from effconv.parity.verification.verification_page import verification_html
from effconv.parity.verification.verify import verification_markdown
from evaluation_runs import SWISH
from loopback import Server, status
from page_record import make_record
from small_images import write_pictures
from stand_in_archives import by_path, stand_in, zipped

IMAGES = 6


def checkpoint_archive(folder: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz", compresslevel=1) as archive:
        archive.add(folder, "efficientdet-d0")
    return content.getvalue()


def coco_contents(folder: Path, scratch: Path) -> tuple[list[bytes], str]:
    """The two archives, of the first few real images; and `Dataset.content` of the annotations in them."""
    data = json.loads((folder / "annotations" / "instances_val2017.json").read_text())
    data["images"] = data["images"][:IMAGES]
    ids = {image["id"] for image in data["images"]}
    data["annotations"] = [each for each in data["annotations"] if each["image_id"] in ids]
    names = [f"val2017/{image['file_name']}" for image in data["images"]]
    path = scratch / "annotations" / "instances_val2017.json"
    path.parent.mkdir()
    path.write_text(json.dumps(data))
    annotations = {"annotations/instances_val2017.json": path.read_bytes()}
    archives = [zipped(annotations), zipped({name: (folder / name).read_bytes() for name in names})]
    return archives, read_dataset(scratch).content


@pytest.fixture
def web(
    server: Server,
    impatient: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    shared: Path,
    full_size: Callable[[str], Path],
) -> Server:
    """Serves the stand-ins; their hashes take the place of the published ones."""
    archive = checkpoint_archive(full_size("efficientdet-d0"))
    contents, content = coco_contents(shared / "coco" / "val2017_66", tmp_path)
    monkeypatch.setattr(published_rows, "OFFICIAL_ANNOTATIONS", {"val2017": content})
    monkeypatch.setattr(verification, "OFFICIAL_ANNOTATIONS", {"val2017": content})
    archives = [stand_in(each, content) for each, content in zip(coco_archives.ARCHIVES, contents, strict=True)]
    release = next(each for each in zoo.RELEASES if each.model == "efficientdet-d0")
    digest = hashlib.sha256(archive).hexdigest()
    release = release._replace(size=len(archive), sha256=digest, fingerprint=None)
    monkeypatch.setattr(zoo, "RELEASES", (release,))
    monkeypatch.setattr(coco_archives, "ARCHIVES", archives)
    base = server.url.rpartition("/")[0]
    for name in (zoo.MIRROR_VARIABLE, coco_archives.MIRROR_VARIABLE):
        monkeypatch.setenv(name, base)
    monkeypatch.setenv(zoo.CACHE_VARIABLE, str(tmp_path / "cache"))
    served = {f"/{each.path}": content for each, content in zip(archives, contents, strict=True)}
    server.otherwise = by_path({f"/{release.path}": archive, **served})
    return server


def publish(monkeypatch: pytest.MonkeyPatch, metrics: dict[str, float]) -> None:
    """A published row of exactly these metrics, of the stand-in checkpoint on the stand-in images."""
    conditions: dict[str, Any] = {"split": "val2017", "images": IMAGES, "image_size": 512, "nms": "soft"}
    row = PublishedRow(
        "made-up", "google/automl", "a test", "efficientdet-d0", metrics, conditions, {"fingerprint": "d0"}
    )
    monkeypatch.setattr(published_rows, "published_rows", lambda: (row,))
    for module in (published, verification):
        monkeypatch.setattr(module, "fingerprint_of", lambda path, verify: "d0")


@pytest.mark.tf
@pytest.mark.shared
@pytest.mark.slow
def test_the_whole_claim_through_every_fault(web: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    output = tmp_path / "verified"

    def run(*options: str) -> Result:
        return CliRunner().invoke(main, ["verify", "--model", "d0", "--workers", "0", "-o", str(output), *options])

    # A checkpoint of another content, then a server that has lost the images: named, and nothing is half there.
    web.script = [by_path({f"/{zoo.RELEASES[0].path}": b"x" * (zoo.RELEASES[0].size or 0)})]
    result = run()
    assert result.exit_code == 2
    assert "expected sha256" in result.stderr
    web.script = [web.otherwise, web.otherwise, status(404)]
    result = run()
    assert result.exit_code == 2
    assert "404" in result.stderr
    assert "checkpoint: not proven: efficientdet-d0.tar.gz is intact, and none of the releases" in result.stderr
    assert result.stdout == ""  # a report has a verdict
    assert not output.exists()

    # Random weights detect nothing: that is what is "published" of them here.
    publish(monkeypatch, dict.fromkeys(METRICS, 0.0))
    asked = len(web.requests)
    result = run()
    assert result.exit_code == 0, result.output
    assert len(web.requests) == asked + 1  # checkpoint and annotations were there
    first, *lines, last = (" ".join(line.split()) for line in result.stdout.splitlines())
    assert first == "efficientdet-d0: verified: every step holds"
    assert lines[0] == "checkpoint holds efficientdet-d0.tar.gz is the released d0, by the checksum of every tensor"
    assert lines[1].startswith(f"dataset holds {IMAGES} images and ")
    assert lines[1].endswith(" boxes of val2017, COCO's own by their sha256")
    assert lines[2].startswith(
        "conversion holds 709 of 709 written tensors are the checkpoint's bit for bit, as read by T"
    )
    assert "; 710 others accounted for -> " in lines[2]
    assert lines[3].startswith("layers holds nothing changed on the way: all 477 layers hold, all ")
    assert lines[4].startswith("metrics holds reproduced: AP 0.0000, published 0.0000")
    assert (len(lines), last) == (5, f"-> {output / 'verification.html'}")
    assert [line.split(": ")[1] for line in result.stderr.splitlines() if line.startswith("checkpoint: ")] == ["holds"]
    record = json.loads((output / "verification.json").read_text())
    assert (output / "verification.md").read_text() == verification_markdown(record)
    assert record["ok"] is True
    assert (output / "verification.html").read_text() == render(verification_html(record))
    assert len(json.loads((output / "detections.json").read_text())) == 100 * IMAGES

    # Once more: nothing is downloaded or compared again; a step that fails is named and sets the exit status.
    monkeypatch.setattr(verification, "compare_layerwise", None)
    monkeypatch.setattr(verification, "OFFICIAL_ANNOTATIONS", {"val2017": "other boxes"})
    publish(monkeypatch, {**dict.fromkeys(METRICS, 0.0), "AP": 0.343})
    result = run("--json")
    assert result.exit_code == 1
    assert len(web.requests) == asked + 1
    found = json.loads(result.stdout)
    assert [step["holds"] for step in found["steps"]] == [True, None, True, True, False]
    assert found["ok"] is False
    assert "; not COCO's own annotations: expected other boxes, found " in result.stderr
    assert "metrics: DOES NOT HOLD: not reproduced: AP 0.0000, published 0.3430" in result.stderr


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], dict[str, tuple[bool | None, str]]]:
    """Verifies a tiny model on pictures in tmp_path; layers are counted as they are compared, metrics are given."""
    compared: list[Any] = []

    def compare(choice: Any, *rest: Any, **more: Any) -> ComparisonRecord:
        compared.append(choice)
        assert get_config(choice.model).name == "tiny-swish"  # a configuration of one's own is known by its path
        return ComparisonRecord.read(make_record() | {"ok": True, "verdict": f"comparison {len(compared)}", "rows": []})

    published_metrics = dataclasses.replace(RECORD, published=REPRODUCED)
    monkeypatch.setattr(verification, "compare_layerwise", compare)
    monkeypatch.setattr(verification, "compare_with_published", lambda *arguments: published_metrics)
    write_pictures(tmp_path / "pictures", 2)
    asked = verification.Verification(
        model=str(SWISH / "config.json"), output=tmp_path / "out", checkpoint=SWISH, coco=tmp_path / "pictures"
    )

    def run() -> dict[str, tuple[bool | None, str]]:
        found: dict[str, tuple[bool | None, str]] = {}
        verification.verify(
            asked,
            lambda model: SWISH,
            "verify",
            lambda what: lambda done, total: None,
            lambda step: found.update({step.name: (step.holds, step.verdict)}),
        )
        return found

    return run


@pytest.mark.tf
def test_a_wrong_written_file_is_found(steps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that was written is read: a value off by its last bit, a tensor left out, one too many."""
    holds, verdict = steps()["conversion"]
    assert holds is True
    assert "written tensors are the checkpoint's bit for bit, as read by TensorFlow; " in verdict
    count = int(verdict.split()[0])
    assert verdict.startswith(f"{count} of {count} ")
    key = "backbone.stem.conv.weight"

    def change(state: dict[str, Any], how: str) -> None:
        if how == "value":
            state[key] = state[key].copy()
            state[key].flat[0] = np.nextafter(state[key].flat[0], np.float32(np.inf))
        elif how == "shape":
            state[key] = state[key].reshape(-1)
        elif how == "missing":
            del state[key]
        else:
            state["more"] = np.zeros(1, np.float32)

    cases = (("value", f"{key} ("), ("shape", f"{key} ("), ("missing", f"{key} (missing)"), ("more", "more (of no"))
    for how, named in cases:

        def write(conversion: Conversion, path: Path, how: str = how) -> Path:
            state = dict(conversion.state)
            change(state, how)
            return write_weights(conversion._replace(state=state), path)

        monkeypatch.setattr(verification, "write_weights", write)
        holds, verdict = steps()["conversion"]
        assert holds is False, how
        assert verdict.startswith(f"{count - (how != 'more')} of {count} ")
        assert f"1 differ: {named}" in verdict


@pytest.mark.tf
def test_a_file_that_cannot_be_read_back_does_not_hold(
    steps: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(verification, "write_weights", lambda conversion, path: path.write_bytes(b"no weights"))
    holds, verdict = steps()["conversion"]
    assert holds is False
    assert "not a readable .safetensors file" in verdict


@pytest.mark.tf
def test_layers_are_compared_again_on_another_image_or_by_other_code(
    steps: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert steps()["layers"][1] == "comparison 1"
    assert steps()["layers"][1] == "comparison 1"
    path = read_dataset(tmp_path / "pictures").images[0].path
    other = read_dataset(tmp_path / "pictures").images[1].path
    assert path.read_bytes() != other.read_bytes()
    path.write_bytes(other.read_bytes())  # in place, under its name
    assert steps()["layers"][1] == "comparison 2"
    assert steps()["layers"][1] == "comparison 2"
    monkeypatch.setattr(verification, "package_digest", lambda: "another")
    assert steps()["layers"][1] == "comparison 3"


def test_the_package_digest_is_of_every_file_that_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = (
        "loading.py",
        "convert/a.py",
        "convert/formats/a.py",
        "effdet_torch/a.py",
        "parity/a.py",
        "parity/traces/a.py",
    )
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.setattr(contents, "PACKAGE", tmp_path)
    found = {contents.package_digest.__wrapped__()}
    for name in names:
        (tmp_path / name).write_text("# another\n")
        found.add(contents.package_digest.__wrapped__())
    assert len(found) == 1 + len(names)


def test_without_tensorflow_nothing_is_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    result = CliRunner().invoke(main, ["verify", "--model", "d0", "-o", str(tmp_path / "verified")])
    assert result.exit_code == 2
    assert result.stderr == "effconv: TensorFlow is needed here and not installed: pip install tensorflow\n"
    assert not (tmp_path / "verified").exists()


def test_the_page_says_what_holds_and_what_was_published() -> None:
    rows = [{"metric": "AP", "ours": 0.3431, "published": 0.343}, {"metric": "APs", "ours": 0.1, "published": None}]
    steps = [("checkpoint", True, "known"), ("layers", False, "first x"), ("metrics", None, "a_b|c.jpg")]
    record = {
        "model": "efficientdet-d0",
        "ok": False,
        "steps": [dict(zip(("name", "holds", "verdict"), step, strict=True)) for step in steps],
        "metrics": {"published": {"rows": rows}, "conditions": {"nms": "soft", "images": 5000}},
        "provenance": {"command": "effconv verify --model d0", "effconv": "0.1.0", "git_commit": "abc"},
    }
    page = verification_markdown(record)
    assert page.startswith(f"{PAGE_MARK}\n\n# efficientdet-d0: not verified; steps that do not hold: layers\n")
    for line in (
        "| checkpoint | holds | known |",
        "| layers | does not hold | first x |",
        r"| metrics | not proven | a\_b\|c.jpg |",
        "| AP | 0.3431 | 0.3430 |",
        "| APs | 0.1000 | - |",
        "Evaluated with: nms soft, images 5000.",
    ):
        assert line in page.splitlines()
    all_hold = {**record, "ok": True, "steps": [{**step, "holds": True} for step in record["steps"]]}
    assert "# efficientdet-d0: verified: every step holds" in verification_markdown(all_hold).splitlines()
