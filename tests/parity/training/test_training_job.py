"""`effconv train`: what it leaves, killed and gone on with, shared out, and what it refuses."""

import csv
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import load_file
from training_runs import EPOCHS, STEPS, SWISH, differing, killed_and_resumed, train

import effconv
import effconv.errors
from effconv.cli import main
from effconv.effdet_torch.training.start import CLASS_PREDICTIONS
from effconv.parity.training.plot import plot_training
from effconv.parity.training.run_folder import TrainingFolder
from training_data import TINY


@pytest.fixture(name="data")
def _data(training_pictures: Path) -> Path:
    return training_pictures


@pytest.fixture(name="model")
def _model(small_model: Path) -> Path:
    return small_model


@pytest.fixture(name="whole")
def _whole(whole_training: Path) -> Path:
    return whole_training


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_a_training_leaves(whole: Path) -> None:
    record = json.loads(whole.with_name("record.json").read_text())
    assert record["steps"] == EPOCHS * STEPS
    assert record["images"] == 8
    steps = rows(whole / "steps.csv")
    assert [int(row["step"]) for row in steps] == list(range(EPOCHS * STEPS))
    assert float(steps[-1]["total"]) == record["last_losses"]["total"]
    evaluations = rows(whole / "evaluations.csv")
    assert [int(row["steps"]) for row in evaluations] == [STEPS * (epoch + 1) for epoch in range(EPOCHS)]
    assert [each["AP"] for each in record["evaluations"]] == [float(row["AP"]) for row in evaluations]
    assert set(evaluations[0]) == {"steps", "AP", "AP50", "AP75", "APs", "APm", "APl"} | {
        f"AR{kind}" for kind in ("1", "10", "100", "s", "m", "l")
    }
    assert (whole / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert record["parameters"] == sum(each.numel() for each in effconv.load(whole / "model.safetensors").parameters())
    averaged, raw = (load_file(whole / name) for name in ("model.safetensors", "raw.safetensors"))
    state = torch.load(whole / "state.pth", weights_only=True)
    assert all((averaged[name] == value.numpy()).all() for name, value in state["average"].items())
    assert all((raw[name] == value.numpy()).all() for name, value in state["model"].items())
    assert (averaged["backbone.stem.conv.weight"] != raw["backbone.stem.conv.weight"]).any()


def test_the_evaluation_is_that_of_effconv_eval(whole: Path, data: Path) -> None:
    arguments = ["eval", "--coco", str(data), "--ckpt", str(whole / "model.safetensors"), "--batch", "2", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)["metrics"]
    last = rows(whole / "evaluations.csv")[-1]
    assert metrics == {name: float(last[name]) for name in metrics}


@pytest.mark.slow
def test_killed_at_random_moments_and_gone_on_with(whole: Path, data: Path, model: Path, tmp_path: Path) -> None:
    assert killed_and_resumed(data, model, tmp_path / "run", number=3, seed=5) == 3
    assert differing(whole, tmp_path / "run") == []


def test_a_finished_training_gone_on_with_is_left_as_it_is(whole: Path, data: Path, model: Path) -> None:
    before = (whole / "steps.csv").read_bytes()
    result = train(data, model, whole, "--resume")
    assert result.exit_code == 0, result.output
    assert "going on after 12 of 12 steps" in result.stderr
    assert (whole / "steps.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "a training is there; give another folder, or go on with it (--out, --resume)"),
        (
            ("--resume", "--batch", 4, "--rate", 0.1),
            "is of another training: batch was 2, now 4, rate was 0.08, now 0.1; only workers and keep_every may "
            "change when one is resumed: go on with the other settings as they were, or start anew in another folder",
        ),
        (
            ("--resume", "--jitter", 0.1, 2, "--clip-norm", 5, "--seed", 1, "--epochs", 9),
            "epochs was 3, now 9, jitter_min was 0.5, now 0.1, jitter_max was 1.5, now 2.0, clip_norm was 10.0, "
            "now 5.0, and 1 more; only workers",
        ),
    ],
)
def test_another_training_in_the_folder(
    more: tuple[object, ...], message: str, whole: Path, data: Path, model: Path
) -> None:
    result = train(data, model, whole, *more)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--resume",), "no training to go on with; start one without resuming (--resume)"),
        (("--split", "nothing"), "expected annotations/instances_nothing.json"),
        (("--batch", 9), "8 images to train on, fewer than a batch of 9"),
        (("--num-classes", 5), "8 categories, and 5 classes to train: disc (id 1), "),
        (("--survival", "much"), "--survival much: expected a number, official or none"),
        (("--jitter", 2, 1), "jitter must be 0 < minimum <= maximum <= 10"),
        (("--head-survival", 0.9), "small has no residual heads"),
        (("--survival", 1.5), "survival 1.5 is out of range"),
        (("--init", "nowhere.pth"), "nowhere.pth"),
    ],
)
def test_bad_input(more: tuple[object, ...], message: str, data: Path, model: Path, tmp_path: Path) -> None:
    result = train(data, model, tmp_path / "run", *more)
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
    assert not (tmp_path / "run").exists()


def changed_data(data: Path, folder: Path, changes: Mapping[str, bytes | None]) -> Path:
    """A copy of a dataset in which files have other contents, or None for none."""
    shutil.copytree(data, folder)
    for name, content in changes.items():
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)
    return folder


def pictures(data: Path, split: str) -> list[str]:
    return sorted(str(path.relative_to(data)) for path in (data / split).iterdir())


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_a_missing_image_is_found_before_the_first_step(split: str, data: Path, model: Path, tmp_path: Path) -> None:
    name = pictures(data, split)[1]
    result = train(changed_data(data, tmp_path / "data", {name: None}), model, tmp_path / "run")
    assert result.exit_code == 2
    assert f"{Path(name).name}: not there; 1 of the {'8' if split == 'train2017' else '4'} images in" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_start_that_fails_can_be_tried_again(workers: int, data: Path, model: Path, tmp_path: Path) -> None:
    """Images are read when it is their turn; a damaged one in the first batch is one line, from a worker too."""
    every = pictures(data, "train2017")
    damaged = changed_data(data, tmp_path / "data", dict.fromkeys(every, b"not an image"))
    more = ("--workers", workers, "--epochs", 1)
    result = train(damaged, model, tmp_path / "run", *more)
    assert result.exit_code == 2
    assert any(f"{Path(name).name}: not a" in result.stderr for name in every), result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()
    for name in every:
        shutil.copy(data / name, damaged / name)
    assert train(damaged, model, tmp_path / "run", *more).exit_code == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--batch", 1), "a batch has one image, and small has a coarsest level of 1 x 1"),
        (("--batch", 5, "--parts", 4), "a part of a batch has one image"),
    ],
)
def test_batch_norm_needs_two_values(
    more: tuple[object, ...], message: str, data: Path, model: Path, tmp_path: Path
) -> None:
    result = train(data, model, tmp_path / "run", *more)
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()
    assert train(data, model, tmp_path / "run", *more, "--epochs", 1, "--frozen-norms").exit_code == 0


class Payload:
    """What unpickling would do."""

    def __init__(self, victim: Path):
        self.victim = victim

    def __reduce__(self) -> Any:
        return Path.touch, (self.victim,)


def test_a_hostile_state_is_refused_and_not_run(whole: Path, data: Path, model: Path, tmp_path: Path) -> None:
    for name in ("run.json", "steps.csv"):
        shutil.copy(whole / name, tmp_path)
    state = torch.load(whole / "state.pth", weights_only=True)
    torch.save({**state, "more": Payload(tmp_path / "run by the payload")}, tmp_path / "state.pth")
    result = train(data, model, tmp_path, "--resume")
    assert not (tmp_path / "run by the payload").exists()
    assert (result.exit_code, "state.pth: damaged" in result.stderr) == (2, True), result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 damaged", b"\x80\x04N."])
def test_a_damaged_state(content: bytes, whole: Path, data: Path, model: Path, tmp_path: Path) -> None:
    for name in ("run.json", "steps.csv"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    (tmp_path / "state.pth").write_bytes(content)
    result = train(data, model, tmp_path, "--resume")
    assert result.exit_code == 2
    assert "state.pth" in result.stderr
    assert "start anew in another folder (--out)" in result.stderr


def test_fine_tuning_with_another_number_of_classes(data: Path, tmp_path: Path) -> None:
    """From the converted checkpoint: all is taken over but the class predictions, and that is said."""
    more = ("--init", SWISH, "--num-classes", 11, "--epochs", 1, "--frozen-backbone", "--eval-split", "none")
    result = train(data, SWISH / "config.json", tmp_path / "run", *more, "--json")
    assert result.exit_code == 0, result.output
    assert "class head: made anew: 11 classes instead of 7" in result.stderr
    record = json.loads(result.stdout)
    assert record["class_head"] == "made anew: 11 classes instead of 7"
    assert record["new_tensors"] == list(CLASS_PREDICTIONS)
    assert record["evaluations"] == []
    trained = load_file(tmp_path / "run" / "raw.safetensors")
    before = effconv.load(SWISH, model=TINY).state_dict()
    assert trained[CLASS_PREDICTIONS[0]].shape[0] == 11 * TINY.num_anchors
    for name, value in before.items():
        if name.startswith("backbone."):
            assert (trained[name] == value.numpy()).all(), name
    assert (trained["box_head.predict.pointwise.weight"] != before["box_head.predict.pointwise.weight"].numpy()).any()


def test_the_log_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not plot_training([], [], tmp_path / "curve.png", "model")
    assert not (tmp_path / "curve.png").exists()


def test_a_state_takes_the_place_of_the_last_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path, {})
    folder.begin()
    folder.keep({"steps": 1})

    class Unwritable:
        def __reduce__(self) -> Any:
            raise OSError("disk full")

    with pytest.raises(effconv.errors.EffconvError, match=r"state\.pth: cannot be written"):
        folder.keep({"steps": 2, "model": Unwritable()})
    state = folder.resume()
    assert state == {"steps": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json", "state.pth", "steps.csv"]
