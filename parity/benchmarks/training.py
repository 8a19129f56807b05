"""A training step's speed and memory beside a peer's with the same weights and labels: `effconv bench training`."""

import dataclasses
import importlib
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ...effdet_torch.config import get_config
from ...effdet_torch.model import EfficientDet
from ...effdet_torch.training.stochastic_depth import official_survival
from ...effdet_torch.training.targets import batch_targets, label_anchors
from ...effdet_torch.training.trainer import Training, TrainingSettings
from ...errors import EffconvError
from ...loading import load
from ..provenance import provenance
from .contest import probe, take_turns, use_threads
from .contest_records import Probe, Turn
from .machine import Machine
from .memory import batch_in_memory
from .network_records import TrainingRecord, TrainingRow
from .peers import import_effdet, peer
from .process import MEGABYTE, PROGRAMS, SEED, make_checkpoint, run_process

OURS = "effconv"
RATE = 1e-4  # so small that weights hardly move while time is taken
MOMENTUM, DECAY, CLIP, AVERAGE = 0.9, 4e-5, 10.0, 0.9998
STEPS = 3  # of which the memory is looked at
BOXES = 7  # true boxes of an image, COCO's mean


class TrainingContest(NamedTuple):
    """What is measured, on made-up images with BOXES true boxes each."""

    model: str
    size: tuple[int, int]
    batch: int
    names: list[str]
    rounds: int
    threads: int
    device: str
    precision: str  # one of machine.COARSER; bfloat16 by autocast

    @property
    def machine(self) -> Machine:
        """Where it is measured."""
        return Machine(self.device, self.precision)


class Trained(Protocol):
    """A model being trained on one batch, again and again."""

    def forward(self) -> float:
        """Outputs and losses, with what gradients need; the loss without weight decay."""

    def step(self) -> object:
        """All of a step: forward, losses, backward, clipped gradients, momentum, moving averages."""


class Ours:
    """`effconv train`'s step."""

    def __init__(self, model: EfficientDet, contest: TrainingContest, images: Tensor, boxes: Tensor, classes: Tensor):
        survival = official_survival(model.config)
        settings = TrainingSettings(precision=contest.machine.dtype_name, average_decay=AVERAGE, survival=survival)
        self.training = Training(model.to(contest.device), lambda _: RATE, settings)
        anchors = self.training.anchors.cpu()
        labels = [label_anchors(one, kinds, anchors) for one, kinds in zip(boxes, classes, strict=True)]
        self.images, self.targets = images, batch_targets(labels)

    def forward(self) -> float:
        """See Trained."""
        return float(self.training.total_loss(self.images, self.targets).detach())

    def step(self) -> object:
        """See Trained."""
        return self.training.step(self.images, self.targets)


class Effdet:
    """effdet's training bench as its `train.py` uses it: labels made beforehand, SGD, clipped norm, moving averages."""

    def __init__(self, model: EfficientDet, contest: TrainingContest, images: Tensor, boxes: Tensor, classes: Tensor):
        network: Any = peer("effdet", model, contest.size).network
        package, anchors = import_effdet()
        averages = importlib.import_module("timm.utils")
        self.device, self.precision = contest.device, contest.precision
        self.bench = package.DetBenchTrain(network, create_labeler=False).to(contest.device).train()
        labeler = anchors.AnchorLabeler(anchors.Anchors.from_config(network.config), network.config.num_classes)
        kinds, codes, positives = labeler.batch_label_anchors(list(boxes), list(classes + 1.0))
        self.images = images
        self.target = {"label_num_positives": positives.to(contest.device)}
        for level, (kind, code) in enumerate(zip(kinds, codes, strict=True)):
            self.target[f"label_cls_{level}"] = kind.to(contest.device)
            self.target[f"label_bbox_{level}"] = code.to(contest.device)
        self.average = averages.ModelEmaV2(self.bench, decay=AVERAGE)
        self.optimizer = torch.optim.SGD(self.bench.parameters(), RATE, MOMENTUM, weight_decay=DECAY)

    def forward(self) -> float:
        """See Trained."""
        return float(self._loss().detach())

    def step(self) -> object:
        """See Trained."""
        self.optimizer.zero_grad()
        loss = self._loss()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.bench.parameters(), CLIP)
        self.optimizer.step()
        self.average.update(self.bench)
        return float(loss.detach())

    def _loss(self) -> Tensor:
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            return self.bench(self.images.to(self.device), self.target)["loss"]  # type: ignore[no-any-return]


CONTESTANTS: Mapping[str, Callable[..., Trained]] = {OURS: Ours, "effdet": Effdet}


def enter(name: str, contest: TrainingContest, checkpoint: Path) -> Trained:
    """The contestant of that name with the checkpoint's weights. Raises EffconvError when it cannot be had."""
    if name not in CONTESTANTS:
        raise EffconvError(f"nobody called {name!r} trains; there are {', '.join(CONTESTANTS)}")
    use_threads(contest.threads)
    model = load(checkpoint, model=contest.model)
    model.config = dataclasses.replace(model.config, image_size=contest.size)
    boxes, classes = made_up_boxes(contest, model.config.num_classes)
    images = torch.randn(contest.batch, 3, *contest.size, generator=torch.Generator().manual_seed(SEED))
    return CONTESTANTS[name](model, contest, images, boxes, classes)


def made_up_boxes(contest: TrainingContest, num_classes: int) -> tuple[Tensor, Tensor]:
    """(boxes (B, BOXES, 4) float32 in pixels, classes (B, BOXES) from 0) of the contest's images."""
    random = np.random.default_rng(SEED)
    corners = random.uniform(0, 0.6, (contest.batch, BOXES, 2))
    sides = random.uniform(0.05, 0.4, (contest.batch, BOXES, 2))
    boxes = np.concatenate([corners, corners + sides], -1) * np.array([*contest.size, *contest.size])
    classes = random.integers(0, num_classes, (contest.batch, BOXES))
    return torch.from_numpy(boxes.astype(np.float32)), torch.from_numpy(classes)


def measure_training(contest: TrainingContest, command: str) -> TrainingRecord:
    """A record of all contestants on the same batch, taking turns: forward with losses, and whole steps.

    `loss` is each one's first, weight decay left out. Raises EffconvError for bad input; a contestant that is not
    installed is named in `left_out`.
    """
    left_out, trained = {}, {}
    machine = contest.machine
    machine.require()
    with (
        batch_in_memory(contest.batch, contest.size),
        machine.arithmetic(),
        tempfile.TemporaryDirectory() as folder,
    ):
        make_checkpoint(contest.model, f"{folder}/model")
        own = {}
        for name in contest.names:
            before_it = machine.allocated()
            try:
                trained[name] = enter(name, contest, Path(folder))
            except EffconvError as error:
                left_out[name] = str(error)
            own[name] = machine.allocated() - before_it
        if not trained:
            raise EffconvError(f"nothing is left to measure: {'; '.join(left_out.values())}")
        losses = {name: each.forward() for name, each in trained.items()}
        turns_of = {
            f"{name}, {what}": machine.complete(getattr(each, what))
            for name, each in trained.items()
            for what in ("forward", "step")
        }
        # Of a device before the turns, because what a first step makes stays.
        watched = trained.items() if machine.is_cuda else ()
        there = {name: own[name] + machine.watched(_steps(each))[1] for name, each in watched}
        before, turns, after = probe(), take_turns(turns_of, contest.rounds), probe()
        peaks = {name: there[name] / MEGABYTE if machine.is_cuda else _peak(contest, name, folder) for name in trained}
    rows = []
    for name in trained:
        forward, step = (_median(turns[f"{name}, {what}"]) for what in ("forward", "step"))
        theirs = _median(turns["effdet, step"]) if "effdet" in trained else step
        row = TrainingRow(
            contestant=name,
            forward_milliseconds=1e3 * forward,
            backward_milliseconds=1e3 * (step - forward),
            images_per_second=contest.batch / step,
            times_faster=theirs / step,
            peak_megabytes=peaks[name],
            loss=losses[name],
        )
        rows.append(row)
    return TrainingRecord(
        what="training steps on one batch, contestants taking turns in one process, medians",
        command=command,
        model=get_config(contest.model).name,
        image_size=contest.size,
        batch=contest.batch,
        threads=contest.threads,
        rounds=contest.rounds,
        left_out=left_out,
        probe_gflops=Probe(before=before, after=after),
        rows=tuple(rows),
        turns={name: tuple(each) for name, each in turns.items()},
        provenance=provenance() | machine.described(),
    )


def _median(turns: Sequence[Turn]) -> float:
    return statistics.median(turn.seconds for turn in turns)


def _steps(trained: Trained) -> Callable[[], None]:
    def run() -> None:
        for _ in range(STEPS):
            trained.step()

    return run


def _peak(contest: TrainingContest, name: str, folder: str) -> float:
    # In a process of its own, whose peak memory is that contestant's.
    sides = [contest.size[0], contest.size[1], contest.batch, contest.threads]
    words = [name, contest.model, folder, *map(str, sides), contest.device, contest.precision]
    return run_process(f"{PROGRAMS}.train_steps", *words).peak_bytes / MEGABYTE
