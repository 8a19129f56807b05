"""The network's speed and memory, ours beside the peers', in one interleaved run: `effconv bench inference`."""

import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

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
from .equal_work import other_work, require_outputs, work_of
from .memory import batch_in_memory
from .network_records import Entrant, InferenceRecord, InferenceRow, ParameterCounts
from .process import MEGABYTE, PROGRAMS, SEED, make_checkpoint, run_process

SCOPE = "network only"


class Contest(NamedTuple):
    """What is measured. `names` are engines of ours, SYMMETRIC, peers, or a peer with ", channels_last"."""

    model: str
    checkpoint: Path | None
    size: tuple[int, int] | None
    batches: Sequence[int]
    names: Sequence[str]
    rounds: int
    threads: int


def measure_inference(contest: Contest, command: str) -> InferenceRecord:
    """A record of all contestants on the same images, taking turns; rows by batch size and contestant.

    Outputs of each are compared with our model's first, level by level. Raises EffconvError for bad input, and where a
    contestant's outputs are others than rounding explains; one that is not installed is named in `left_out`.
    """
    if TENSORFLOW in contest.names and "tensorflow" in sys.modules:
        raise EffconvError("TensorFlow is running already, with other settings: measure in a fresh process")
    largest = batch_in_memory(max(contest.batches), contest.size or get_config(contest.model).image_size)
    with largest, tempfile.TemporaryDirectory() as folder:
        use_threads(contest.threads)
        if contest.checkpoint is None:
            make_checkpoint(contest.model, f"{folder}/model")
        return _measure(contest, contest.checkpoint or Path(folder), command)


def _measure(contest: Contest, checkpoint: Path, command: str) -> InferenceRecord:
    model = load(checkpoint, model=contest.model)
    size = contest.size or model.config.image_size
    entered, left_out = _enter(contest.names, model, checkpoint, size)
    before = probe()
    rows: list[InferenceRow] = []
    turns: dict[str, dict[str, tuple[Turn, ...]]] = {}
    for batch in contest.batches:
        images = torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0))
        errors = _errors(entered, model, images)
        found = take_turns({name: _forward(each.network, images) for name, each in entered.items()}, contest.rounds)
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
                peak_megabytes=_peak(contest, checkpoint, name, size, batch),
                error_beside_the_model=errors[name],
                beside=beside,
                times_faster=faster[name],
            )
            rows.append(row)
        turns[str(batch)] = {name: tuple(each) for name, each in found.items()}
    return InferenceRecord(
        what="forward passes, contestants taking turns in one process, medians; peak memory of fresh processes",
        command=command,
        model=model.config.name,
        image_size=size,
        checkpoint=contest.checkpoint.name if contest.checkpoint else f"random values, seed {SEED}",
        threads=contest.threads,
        rounds=contest.rounds,
        parameters=parameters(model),
        contestants={name: Entrant(version=each.version, note=each.note) for name, each in entered.items()},
        left_out=left_out,
        probe_gflops=Probe(before=before, after=probe(), threads=contest.threads),
        rows=tuple(rows),
        turns=turns,
        provenance=provenance() | {"dtype": "float32"},
    )


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


def _enter(
    names: Sequence[str], model: EfficientDet, checkpoint: Path, size: tuple[int, int]
) -> tuple[dict[str, Contestant], dict[str, str]]:
    entered, left_out = {}, {}
    for name in names:
        try:
            entered[name] = contestant(name, model, checkpoint, size)
        except EffconvError as error:
            left_out[name] = str(error)
    if not entered:
        raise EffconvError(f"nothing is left to measure: {'; '.join(left_out.values())}")
    return entered, left_out


def _forward(network: nn.Module, images: Tensor) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode():
            return network(images)

    return run


def _errors(entered: Mapping[str, Contestant], model: EfficientDet, images: Tensor) -> dict[str, float | None]:
    """Each contestant's largest relative difference from our model; None for what computes another function.

    Raises EffconvError where it is none of rounding, image by image; for the other function, where a shape differs.
    """
    work = work_of(model, images)
    with torch.inference_mode():
        expected = [level for kind in model(images) for level in kind]
        errors: dict[str, float | None] = {}
        for name, each in entered.items():
            outputs = each.network(images)
            found = [level for kind in outputs for level in kind]
            shapes = [[tuple(level.shape) for level in side] for side in (found, expected)]
            if shapes[0] != shapes[1]:
                raise other_work(name, f"outputs of shapes {shapes[1]}", f"found {shapes[0]}")
            if each.same_function:
                require_outputs(name, outputs, work)
            pairs = zip(found, expected, strict=True)
            errors[name] = max(output_error(one, other) for one, other in pairs) if each.same_function else None
    return errors


def _peak(contest: Contest, checkpoint: Path, name: str, size: tuple[int, int], batch: int) -> float:
    # In a process of its own, whose peak memory is that contestant's.
    words = [name, contest.model, str(checkpoint), *map(str, (*size, batch, contest.threads))]
    return run_process(f"{PROGRAMS}.run_network", *words).peak_bytes / MEGABYTE
