"""Trainings stopped in the middle, by a kill, a signal or a loss that is not finite: nothing is lost of them."""

import dataclasses
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from training_runs import EPOCHS, STEPS, SWISH, differing, options, train

from effconv.cli import main
from effconv.effdet_torch.training.trainer import Training
from effconv.parity.datasets.dataset import Image
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.training import session
from effconv.parity.training.batches import batch_places
from effconv.parity.training.examples import TrainingSet
from effconv.parity.training.run_folder import TrainingFolder
from tensors import config_of

CONFIG = dataclasses.replace(config_of(SWISH), num_classes=11)  # of the pictures' classes

Act = Callable[..., None]


def before(call: int, act: Act, official: Any) -> Any:
    """`official`, which does `act` with its arguments before its so many-th call."""
    calls = 0

    def changed(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            act(*given)
        return official(*given, **named)

    return changed


def state_of(out: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(out / "state.pth", weights_only=True)
    return state


# --- kill -9 -----------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from effconv.cli import main
from effconv.parity.training import run_folder, session, train
def kill(*given, **named):
    os.kill(os.getpid(), signal.SIGKILL)
def within_a_row(folder, *given):
    with (folder.path / "steps.csv").open("a") as file:
        file.write("6,0.3")
    kill()
def within_a_state(state, file):
    file.write(b"half")
    file.flush()
    kill()
owner, name, call, act = {
    "within a row": (run_folder.TrainingFolder, "log", 7, within_a_row),
    "within a state": (run_folder.torch, "save", 2, within_a_state),
    "between an evaluation and its row": (run_folder.TrainingFolder, "log_evaluation", 2, kill),
}[sys.argv.pop(1)]
official, calls = getattr(owner, name), 0
def changed(*given, **named):
    global calls
    calls += 1
    return (act if calls == call else official)(*given, **named)
setattr(owner, name, changed)
main()
"""


@pytest.mark.parametrize("moment", ["within a row", "within a state", "between an evaluation and its row"])
def test_killed_and_gone_on_with_to_the_byte(
    moment: str, whole_training: Path, training_pictures: Path, small_model: Path, tmp_path: Path
) -> None:
    script, out = tmp_path / "killed.py", tmp_path / "run"
    script.write_text(KILLED)
    command = [sys.executable, str(script), moment, "train", *options(training_pictures, small_model, out)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, check=False, env=environment, timeout=100)
    assert done.returncode == -signal.SIGKILL, done.stderr
    result = train(training_pictures, small_model, out, "--resume")
    assert result.exit_code == 0, result.output
    assert differing(whole_training, out) == []


# --- Ctrl-C and SIGTERM ------------------------------------------------------------------------------------------


def run_as_typed(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> Result:
    """The command line, which is also what the program knows of how it was called."""
    monkeypatch.setattr(sys, "argv", words)
    return CliRunner().invoke(main, words[1:])


SIGNALS: dict[str, tuple[Any, str, int, int]] = {  # what is called, how often before, and steps done then
    "within a step": (Training, "step", 6, 6),
    "while a batch is prepared": (TrainingSet, "__getitem__", 11, 5),
    "within an evaluation": (session, "detect", 2, 8),
    "within the last step": (Training, "step", EPOCHS * STEPS, EPOCHS * STEPS),
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", SIGNALS)
def test_a_signal_keeps_the_state_and_says_how_to_go_on(
    moment: str,
    number: signal.Signals,
    whole_training: Path,
    training_pictures: Path,
    small_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owner, name, call, done = SIGNALS[moment]
    out, handler = tmp_path / "run", signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, before(call, lambda *given: signal.raise_signal(number), getattr(owner, name)))
        result = run_as_typed(patch, ["effconv", "train", *options(training_pictures, small_model, out)])
    assert result.exit_code == 128 + number
    stopped = (
        f"stopped by {number.name} after {done} of 12 steps; the state after {done} steps is in {out}; go on with: "
    )
    last = result.stderr.splitlines()[-1]
    assert stopped in last
    assert signal.getsignal(number) == handler
    assert state_of(out)["steps"] == done
    resumed = run_as_typed(monkeypatch, shlex.split(last.partition("go on with: ")[2]))
    assert resumed.exit_code == 0, resumed.output
    assert differing(whole_training, out) == []


def test_a_signal_before_the_first_step_leaves_nothing(
    training_pictures: Path, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    act = before(1, lambda *given: signal.raise_signal(signal.SIGINT), TrainingSet.__getitem__)
    monkeypatch.setattr(TrainingSet, "__getitem__", act)
    result = train(training_pictures, small_model, tmp_path / "run")
    assert result.exit_code == 130
    assert f"after 0 of 12 steps; nothing is left in {tmp_path / 'run'}; no step was finished" in result.stderr
    assert not (tmp_path / "run").exists()


STOPPED_TOGETHER = """
import os, signal, sys
from effconv.cli import main
from effconv.effdet_torch.training.trainer import Training
step = Training.step
def stopped(self, *given):
    if self.steps == 2 and os.environ["RANK"] == "1":
        signal.raise_signal(signal.SIGTERM)
    return step(self, *given)
Training.step = stopped
main()
"""


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step(training_pictures: Path, small_model: Path, tmp_path: Path) -> None:
    script, out = tmp_path / "stopped.py", tmp_path / "run"
    script.write_text(STOPPED_TOGETHER)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    given = options(training_pictures, small_model, out)
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [*torchrun, str(script), "train", *given], capture_output=True, text=True, check=False, env=environment
    )
    again = shlex.join(["torchrun", "--nproc-per-node", "2", "-m", "effconv.cli", "train", *given, "--resume"])
    assert f"stopped by SIGTERM after 3 of 12 steps; the state after 3 steps is in {out}; go on with: {again}" in (
        done.stderr
    )
    assert state_of(out)["steps"] == 3
    assert "exitcode  : 143" in done.stderr


# --- losses that are not finite ----------------------------------------------------------------------------------


def image_of(data: Path, step: int, place: int) -> Image:
    """The image at this place of a step's batch, of a training of twelve steps of two."""
    dataset = read_dataset(data, "train2017")
    examples = TrainingSet(dataset, CONFIG, augmentation=None, seed=0)
    return dataset.images[batch_places(examples, *divmod(step, STEPS), 2)[place]]


def spoil(training: Training, images: torch.Tensor, *targets: Any) -> None:
    images[1] = torch.nan


def test_a_loss_that_is_not_finite_names_the_image_and_keeps_the_state(
    whole_training: Path, training_pictures: Path, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", before(6, spoil, Training.step))
        result = train(training_pictures, small_model, out)
    assert result.exit_code == 2
    image = image_of(training_pictures, step=5, place=1)
    assert (
        "step 5: the class loss is nan and the box loss is nan; the first layer with values that are not finite is the "
        f"input; images: {image.path.name} (id {image.id}); the state after 5 steps is in {out}."
    ) in result.stderr
    assert "Traceback" not in result.stderr
    resumed = train(training_pictures, small_model, out, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert differing(whole_training, out) == []


def test_a_rate_beyond_all_measure(training_pictures: Path, small_model: Path, tmp_path: Path) -> None:
    """What is kept can be gone on from: weights that are not finite never take its place."""
    result = train(training_pictures, small_model, tmp_path / "run", "--rate", 3e40, "--keep-every", 1)
    assert result.exit_code == 2
    assert "not finite" in result.stderr
    assert "with a lower rate (--resume, --out, --rate)" in result.stderr
    state = tmp_path / "run" / "state.pth"
    assert not state.exists() or all(value.isfinite().all() for value in state_of(state.parent)["model"].values())


def test_a_damaged_image_later_on_keeps_the_state(
    training_pictures: Path, small_model: Path, tmp_path: Path, whole_training: Path
) -> None:
    last = image_of(training_pictures, step=3, place=0).path
    data = shutil.copytree(training_pictures, tmp_path / "data")
    (data / "train2017" / last.name).write_bytes(b"not an image")
    result = train(data, small_model, tmp_path / "run")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert f"{last.name}: not a" in result.stderr
    assert f"the state after 3 steps is in {tmp_path / 'run'}" in result.stderr
    shutil.copy(last, data / "train2017")
    assert train(data, small_model, tmp_path / "run", "--resume").exit_code == 0
    assert differing(whole_training, tmp_path / "run") == []


# --- what is shown -----------------------------------------------------------------------------------------------


def test_progress_shows_losses_rate_and_ap_and_dashes_for_what_is_undefined(
    training_pictures: Path, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("effconv.progress.LINE_SECONDS", 0.0)
    result = train(training_pictures, small_model, tmp_path / "run")
    shown = [line for line in result.stderr.splitlines() if line.startswith("training: ")]
    folder = TrainingFolder(tmp_path / "run", {})
    steps, scores = folder.steps(), folder.evaluations()
    assert len(shown) == len(steps) == EPOCHS * STEPS
    for place, (line, row) in enumerate(zip(shown, steps, strict=True)):
        known = f"{scores[place // STEPS - 1]['AP']:.3f}" if place >= STEPS else "-"
        assert line.endswith(
            f"; class loss {row['classes']:.4g}, box loss {row['boxes']:.4g}, "
            f"learning rate {row['rate']:.4g}, AP {known}"
        )
    assert scores[-1]["APl"] == -1  # no picture has a large thing
    assert "APl -," in result.stdout
    assert "-1.0" not in result.output
