"""The network's speed and memory, ours beside the peers', in one interleaved run: `effconv bench inference`."""

import copy
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...effdet_torch.config import get_config
from ...effdet_torch.model import EfficientDet
from ...errors import EffconvError
from ...loading import load
from ..comparison.engine import output_error
from ..provenance import provenance
from .contest import probe, take_turns, use_threads
from .contest_records import Probe, Turn
from .contestants import TENSORFLOW, Contestant, contestant
from .equal_work import Lists, other_work, require_outputs, work_of
from .machine import COARSER, CPU, ON_THE_CPU, Machine
from .memory import batch_in_memory
from .network_records import Entrant, InferenceRecord, InferenceRow, ParameterCounts
from .process import MEGABYTE, PROGRAMS, SEED, make_checkpoint, run_process

SCOPE = "network only"
PASSES = 3  # before time is taken: what compiles, records or replays has begun to do so


class Contest(NamedTuple):
    """What is measured. `names` are engines of ours, SYMMETRIC, peers, or a peer with ", channels_last"."""

    model: str
    checkpoint: Path | None
    size: tuple[int, int] | None
    batches: Sequence[int]
    names: Sequence[str]
    rounds: int
    threads: int
    machine: Machine = ON_THE_CPU


def measure_inference(contest: Contest, command: str) -> InferenceRecord:
    """A record of all contestants on the same images, taking turns; rows by batch size and contestant.

    Outputs of each are compared with our model's first, level by level. Raises EffconvError for bad input, and where a
    contestant's outputs are others than rounding explains; one that is not installed is named in `left_out`.
    """
    contest.machine.require(contest.names)
    if TENSORFLOW in contest.names and "tensorflow" in sys.modules:
        raise EffconvError("TensorFlow is running already, with other settings: measure in a fresh process")
    largest = batch_in_memory(max(contest.batches), contest.size or get_config(contest.model).image_size)
    with largest, tempfile.TemporaryDirectory() as folder:
        use_threads(contest.threads)
        if contest.checkpoint is None:
            make_checkpoint(contest.model, f"{folder}/model")
        return _measure(contest, contest.checkpoint or Path(folder), command)


def _measure(contest: Contest, checkpoint: Path, command: str) -> InferenceRecord:
    model, machine = load(checkpoint, model=contest.model), contest.machine
    size = contest.size or model.config.image_size
    entered, left_out = _enter(contest.names, model, checkpoint, size, machine)
    truth = model if machine.device == CPU else copy.deepcopy(model).to(machine.device)
    before = probe()
    rows: list[InferenceRow] = []
    turns: dict[str, dict[str, tuple[Turn, ...]]] = {}
    for batch in contest.batches:
        images = torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0))
        looked_at = _errors(entered, truth, images, machine)
        there = images.to(machine.device, machine.dtype)
        forwards = {name: machine.complete(_forward(each.network, there)) for name, each in entered.items()}
        with machine.arithmetic():
            found = take_turns(forwards, contest.rounds)
        quartiles = {name: _quartiles([turn.seconds / batch for turn in each]) for name, each in found.items()}
        milliseconds = {name: 1e3 * middle for name, (_, middle, _) in quartiles.items()}
        beside, faster = times_faster(milliseconds)
        for name, (low, middle, high) in quartiles.items():
            row = InferenceRow(
                contestant=name,
                batch=batch,
                scope=SCOPE,
                milliseconds_per_image=milliseconds[name],
                quartiles=(1e3 * low, 1e3 * high),
                images_per_second=1 / middle,
                peak_megabytes=looked_at[name].peak_megabytes or _peak(contest, checkpoint, name, size, batch),
                error_beside_the_model=looked_at[name].error,
                beside=beside,
                times_faster=faster[name],
            )
            rows.append(row)
        turns[str(batch)] = {name: tuple(each) for name, each in found.items()}
    return InferenceRecord(
        what=f"forward passes, contestants taking turns in one process, medians; peak memory of {_whose(machine)}",
        command=command,
        model=model.config.name,
        image_size=size,
        checkpoint=contest.checkpoint.name if contest.checkpoint else f"random values, seed {SEED}",
        threads=contest.threads,
        rounds=contest.rounds,
        parameters=parameters(model),
        contestants={name: _entrant(each.contestant) for name, each in entered.items()},
        left_out=left_out,
        probe_gflops=Probe(before=before, after=probe(), threads=contest.threads),
        rows=tuple(rows),
        turns=turns,
        provenance=provenance() | machine.described(),
    )


def _entrant(given: Contestant) -> Entrant:
    return Entrant(version=given.version, note=given.note)


def _whose(machine: Machine) -> str:
    return "the device, without other contestants'" if machine.is_cuda else "fresh processes"


def _quartiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else [*seconds] * 3
    return low, middle, high


def parameters(model: EfficientDet) -> ParameterCounts:
    """How many parameters the encoder (backbone) and the decoder (BiFPN and heads) have."""
    encoder = sum(each.numel() for each in model.backbone.parameters())
    return ParameterCounts(encoder=encoder, decoder=sum(each.numel() for each in model.parameters()) - encoder)


def times_faster(milliseconds: Mapping[str, float]) -> tuple[str, dict[str, float]]:
    """Whom the contestants of one batch size stand beside, and how many times faster each is.

    That is effdet, without it our eager model, without both the first.
    """
    base = next(name for name in ("effdet", "eager", next(iter(milliseconds))) if name in milliseconds)
    return base, {name: milliseconds[base] / each for name, each in milliseconds.items()}


class Entered(NamedTuple):
    """A contestant that could be had, and bytes that it has of a GPU's memory before it runs."""

    contestant: Contestant
    own: int

    @property
    def network(self) -> nn.Module:
        """What is called with images."""
        return self.contestant.network


def _enter(
    names: Sequence[str], model: EfficientDet, checkpoint: Path, size: tuple[int, int], machine: Machine
) -> tuple[dict[str, Entered], dict[str, str]]:
    entered, left_out = {}, {}
    for name in names:
        before = machine.allocated()
        try:
            made = contestant(name, model, checkpoint, size, machine)
        except EffconvError as error:
            left_out[name] = str(error)
            continue
        entered[name] = Entered(made, machine.allocated() - before)
    if not entered:
        raise EffconvError(f"nothing is left to measure: {'; '.join(left_out.values())}")
    return entered, left_out


def _forward(network: nn.Module, images: Tensor) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode():
            return network(images)

    return run


class LookedAt(NamedTuple):
    """What a contestant's first passes on a batch showed."""

    error: float | None  # relative, the largest from our model; None for what computes another function
    peak_megabytes: float  # of a GPU's memory; 0 on a CPU, where a process of its own shows it


def _errors(
    entered: Mapping[str, Entered], model: EfficientDet, images: Tensor, machine: Machine
) -> dict[str, LookedAt]:
    """What each contestant's outputs are beside those of our model, which is on the machine in float32.

    Raises EffconvError where they are none of rounding, image by image; for another function, where a shape differs.
    """
    work = work_of(model, images)
    with torch.inference_mode():
        expected = _in_float32(model(images.to(machine.device)))
    found: dict[str, LookedAt] = {}
    for name, each in entered.items():
        outputs, peak = machine.watched(_first_passes(each.network, images, machine))
        levels = _flat(outputs), _flat(expected)
        shapes = [[tuple(level.shape) for level in side] for side in levels]
        if shapes[0] != shapes[1]:
            raise other_work(name, f"outputs of shapes {shapes[1]}", f"found {shapes[0]}")
        error = None
        if each.contestant.same_function:
            require_outputs(name, outputs, work, COARSER[machine.precision])
            error = max(output_error(one, other) for one, other in zip(*levels, strict=True))
        found[name] = LookedAt(error, (each.own + peak) / MEGABYTE if machine.is_cuda else 0.0)
    return found


def _first_passes(network: nn.Module, images: Tensor, machine: Machine) -> Callable[[], Lists]:
    """The outputs of the last of them, in float32."""

    def run() -> Lists:
        forward = _forward(network, images.to(machine.device, machine.dtype))
        with machine.arithmetic():
            for _ in range(PASSES - 1):
                forward()
            return _in_float32(forward())

    return run


def _in_float32(outputs: Any) -> Lists:
    logits, codes = ([level.float() for level in kind] for kind in outputs)
    return logits, codes


def _flat(outputs: Lists) -> list[Tensor]:
    return [level for kind in outputs for level in kind]


def _peak(contest: Contest, checkpoint: Path, name: str, size: tuple[int, int], batch: int) -> float:
    # In a process of its own, whose peak memory is that contestant's.
    sides = map(str, (*size, batch, contest.threads))
    words = [name, contest.model, str(checkpoint), *sides, contest.machine.precision]
    return run_process(f"{PROGRAMS}.run_network", *words).peak_bytes / MEGABYTE
