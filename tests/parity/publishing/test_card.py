"""`effconv card`: it says what the file, its manifest and records of these very weights say, and nothing else."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from effconv.cli import main
from effconv.convert import fingerprints
from effconv.convert.sources import open_checkpoint
from effconv.convert.weights_file import read_weights, save_weights
from effconv.errors import EffconvError
from effconv.parity.publishing.card import card
from effconv.parity.publishing.evidence import read_evaluation, read_parity
from effconv.parity.publishing.markdown_text import as_text
from effconv.parity.publishing.weights import describe_weights
from small_images import write_pictures

SWISH = Path(__file__).parents[2] / "golden" / "tiny-swish"
OF_SWISH = ("--model", SWISH / "config.json", "--ckpt", SWISH)
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def refusal(*words: object) -> str:
    """The one line of a command that is refused."""
    found = run(*words)
    assert (found.exit_code, found.stdout) == (2, ""), found.output
    assert len(found.stderr.splitlines()) == 1
    return found.stderr


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights, their manifest, and a record of each kind, of the weights and of the checkpoint."""
    folder = tmp_path_factory.mktemp("card")
    assert run("tf2torch", *OF_SWISH, "-o", folder / "w.safetensors").exit_code == 0
    pictures = write_pictures(folder / "pictures", 2)
    reference = ("--reference", next(SWISH.glob("activations*.npz")), "--json")
    for name, words in {
        "parity": ("parity", *OF_SWISH, "--candidate", folder / "w.safetensors", *reference),
        "of-checkpoint": ("parity", *OF_SWISH, *reference),
        "eval": ("eval", "--coco", pictures, "--ckpt", folder / "w.safetensors", "--workers", 0, "--json"),
        "eval-tf": ("eval", "--coco", pictures, *OF_SWISH, "--workers", 0, "--json"),
        "eval-raw": ("eval", "--coco", pictures, *OF_SWISH, "--weights", "raw", "--workers", 0, "--json"),
    }.items():
        found = run(*words)
        assert found.exit_code == 0, found.stderr
        (folder / f"{name}.json").write_text(found.stdout)
    return folder


def changed(files: Path, name: str, change: Callable[[dict[str, Any]], object], to: Path) -> Path:
    record = json.loads((files / name).read_text())
    change(record)
    to.write_text(json.dumps(record))
    return to


def test_a_card_states_the_file_and_records(files: Path, tmp_path: Path) -> None:
    weights = files / "w.safetensors"
    words = ("card", weights, "--parity", files / "parity.json", "--eval", files / "eval.json")
    found = run(*words, "-o", tmp_path / "README.md", "--json")
    assert found.exit_code == 0, found.stderr
    text = (tmp_path / "README.md").read_text()
    about, metrics = json.loads(found.stdout), json.loads((files / "eval.json").read_text())["metrics"]
    manifest = json.loads((files / "w.manifest.json").read_text())
    assert about["sha256"] == manifest["sha256"]
    assert text.startswith("---\nlicense: apache-2.0\nlibrary_name: effconv\n")
    assert "datasets:" not in text  # its classes are not COCO's
    for expected in (about["sha256"], manifest["source"]["fingerprint"], "the moving averages", "tan2020efficientdet"):
        assert expected in text
    assert f"| AP, IoU 0.50:0.95 | {metrics['AP']:.4f} |" in text
    assert "2 images" in text
    assert "nms soft" in text
    assert "**Holds**: nothing changed on the way" in text
    assert "no evaluation was given" not in text


def test_every_number_is_of_the_file_or_of_a_record(files: Path) -> None:
    weights = describe_weights(files / "w.safetensors")
    text = card(weights, "w.safetensors")
    assert text.count("No record was given, so nothing is claimed.") == 2
    config = weights.config
    allowed = {*map(str, config.image_size), f"{weights.parameters:,}", str(config.num_classes)}
    allowed |= {"2.0", "2020", "0.3", "0.1.0"}  # the licence, the paper, the example's least score, effconv
    body = text.split("-->\n", 1)[1]
    for name in (weights.sha256, str(weights.fingerprint), config.name, config.backbone, "TF1", "sha256", "[0]"):
        body = body.replace(name, "")
    assert set(NUMBER.findall(body.replace("0.1.0", ""))) <= allowed


def test_the_example_runs_as_it_stands(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = card(describe_weights(files / "w.safetensors"), "w.safetensors")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len([line for line in example.splitlines() if line]) == 4
    monkeypatch.chdir(tmp_path)
    Path("w.safetensors").symlink_to(files / "w.safetensors")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)).save("photo.jpg")
    exec(compile(example.replace("0.3", "0.0"), "README.md", "exec"), {})  # untrained, it is sure of nothing
    assert len(capsys.readouterr().out.splitlines()) > 1
    exec(compile(example, "README.md", "exec"), {})


def test_a_record_of_a_checkpoint_is_of_the_set_of_weights_that_it_names(files: Path) -> None:
    weights = describe_weights(files / "w.safetensors")
    assert read_evaluation(files / "eval-tf.json", weights).conditions["weights"] == "ema"
    assert "eval-raw.json: is of this checkpoint's raw weights, and not of its moving averages" in refusal(
        "card", files / "w.safetensors", "-o", files / "x.md", "--eval", files / "eval-raw.json"
    )
    message = refusal("card", files / "w.safetensors", "-o", files / "x.md", "--parity", files / "of-checkpoint.json")
    assert "does not say which" in message
    assert not (files / "x.md").exists()


OTHERS: dict[str, tuple[str, str, Callable[[dict[str, Any]], object], str]] = {
    "other weights": ("--parity", "parity", lambda r: r["candidate"].update(sha256="0" * 64), "is of other weights"),
    "another checkpoint": (
        "--eval",
        "eval-tf",
        lambda r: r["weights_file"].update(checkpoint_fingerprint="sha256:0"),
        "is of other weights",
    ),
    "another model": (
        "--eval",
        "eval",
        lambda r: r.update(model="efficientdet-d0"),
        "is of efficientdet-d0, and not of",
    ),
    "no digest": ("--eval", "eval", lambda r: r.pop("weights_file"), "does not say by a digest"),
    "a release they are not": (
        "--eval",
        "eval",
        lambda r: (r.pop("weights_file"), r.update(fingerprint="efficientdet-d0.coco2-343")),
        "does not say by a digest",
    ),
    "detections": (
        "--eval",
        "eval",
        lambda r: r.update(what="COCO metrics of a file of detections"),
        "of a model, found",
    ),
    "effconv itself": ("--parity", "parity", lambda r: r["reference"].update(kind="torch"), "proves nothing"),
    "another network": ("--parity", "parity", lambda r: r.update(pairing=[]), "of effconv's own network"),
    "a backbone": ("--parity", "parity", lambda r: r.update(backbone={"file": "x"}), "of effconv's own network"),
    "no record": ("--parity", "parity", lambda r: r.clear(), "not a record of `effconv parity`"),
    "an evaluation as a comparison": ("--parity", "eval", lambda r: None, "not a record of `effconv parity`"),
    "a metric that is none": ("--eval", "eval", lambda r: r["metrics"].update(AP="1.0"), "expected float, found '1.0'"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_record_of_anything_else_is_refused(what: str, files: Path, tmp_path: Path) -> None:
    option, name, change, message = OTHERS[what]
    record = changed(files, f"{name}.json", change, tmp_path / "r.json")
    output = tmp_path / "README.md"
    found = refusal("card", files / "w.safetensors", "-o", output, option, record)
    assert found.startswith(f"effconv: {record}: ")
    assert message in found
    assert not output.exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b"NaN"])
@pytest.mark.parametrize("option", ["--parity", "--eval"])
def test_what_is_no_record_is_refused(option: str, content: bytes, files: Path, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(content)
    assert f"{tmp_path / 'r.json'}: not a record" in refusal(
        "card", files / "w.safetensors", "-o", tmp_path / "x.md", option, tmp_path / "r.json"
    )


def test_a_comparison_that_fails_is_stated_as_one(files: Path, tmp_path: Path) -> None:
    def fail(record: dict[str, Any]) -> None:
        record |= {"ok": False, "verdict": "differs first at backbone.stem.conv"}
        next(row for row in record["rows"] if row["checks"])["ok"] = False

    weights = describe_weights(files / "w.safetensors")
    failed = changed(files, "parity.json", fail, tmp_path / "r.json")
    text = card(weights, "w.safetensors", [failed])
    assert "**Does not hold**: differs first at backbone.stem.conv." in text
    assert "a comparison above does not hold" in text
    rows = read_parity(failed, weights).plain()["rows"]
    known = sum(bool(row["checks"]) for row in rows)  # the recorded run lacks most layers, which count for nothing
    assert 1 < known < len(rows) - 100
    assert f"within their limits: {known - 1} of {known} that the reference has, of {len(rows)}" in text


def test_the_manifest_of_other_weights_is_refused(files: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    stored = read_weights(files / "w.safetensors")
    assert stored.config is not None
    stored.state["backbone.stem.norm.bias"][0] += 1
    save_weights(stored.state, stored.config, weights, stored.weights)
    assert "no manifest lies beside the weights" in card(describe_weights(weights), "w.safetensors")
    manifest = json.loads((files / "w.manifest.json").read_text())
    (tmp_path / "w.manifest.json").write_text(json.dumps(manifest))
    assert "is of other weights: expected sha256" in refusal("card", weights, "-o", tmp_path / "x.md")
    del manifest["sha256"]
    (tmp_path / "w.manifest.json").write_text(json.dumps(manifest))
    text = card(describe_weights(weights), "w.safetensors")
    assert "does not say of which file it is" in text
    assert manifest["source"]["fingerprint"] not in text


def test_weights_that_do_not_say_what_they_are_are_refused(files: Path, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file(read_weights(files / "w.safetensors").state, tmp_path / "x.safetensors")
    assert "does not say which model it is of" in refusal("card", tmp_path / "x.safetensors", "-o", tmp_path / "x.md")
    assert "expected weights that effconv wrote" in refusal("card", SWISH, "-o", tmp_path / "x.md")


def test_a_card_changed_by_hand_is_not_replaced(files: Path, tmp_path: Path) -> None:
    output = tmp_path / "README.md"
    words = ("card", files / "w.safetensors", "-o", output)
    assert run(*words).exit_code == 0
    assert run(*words, "--eval", files / "eval.json").exit_code == 0
    mine = output.read_text() + "\nAsk me.\n"
    output.write_text(mine)
    assert "is not an unchanged model card that effconv wrote" in refusal(*words)
    assert output.read_text() == mine
    assert run(*words, "--force").exit_code == 0
    assert "Ask me" not in output.read_text()


def test_a_text_is_no_markup() -> None:
    hostile = "a\n# b | <script> [x](y) `c` ![i](j) **d** &amp; $e$"
    shown = as_text(hostile)
    assert "\n" not in shown
    assert re.search(r"(?<!\\)[<>\[\]`|*#&!$]", shown) is None


def test_names_of_classes_stand_in_a_card(files: Path, tmp_path: Path) -> None:
    stored = read_weights(files / "w.safetensors")
    assert stored.config is not None
    names = ("<b>cat</b>", "dog", *[""] * (stored.config.num_classes - 2))
    save_weights(stored.state, dataclasses.replace(stored.config, class_names=names), tmp_path / "w.safetensors")
    text = card(describe_weights(tmp_path / "w.safetensors"), "w.safetensors")
    assert r"\<b\>cat\</b\>, dog, category 3" in text


def test_a_release_is_known_by_its_values(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checksums = open_checkpoint(SWISH).checksums()
    release = fingerprints.Released("swish.made-up", str(SWISH / "config.json"), "made-up", checksums)
    monkeypatch.setattr(fingerprints, "known_checkpoints", lambda: (release,))
    weights = describe_weights(files / "w.safetensors")
    assert weights.release == "swish.made-up"
    text = card(weights, "w.safetensors")
    assert "the released checkpoint swish.made-up, by its checksum" in text
    assert "who trained them" not in text

    def earlier(record: dict[str, Any]) -> None:  # of before records had a digest
        del record["weights_file"]
        record["fingerprint"] = "swish.made-up"

    assert read_evaluation(changed(files, "eval.json", earlier, tmp_path / "ema.json"), weights).images == 2
    with pytest.raises(EffconvError, match="does not say by a digest"):
        read_evaluation(changed(files, "eval-raw.json", earlier, tmp_path / "raw.json"), weights)
    stored = read_weights(files / "w.safetensors")
    assert stored.config is not None
    save_weights(stored.state, stored.config, tmp_path / "w.safetensors", "raw")  # which is not so
    assert describe_weights(tmp_path / "w.safetensors").release is None
