"""Batches to train on: an order for each epoch, shared out among processes, prepared ahead by workers."""

import signal
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ...effdet_torch.training.targets import Targets, batch_targets
from ...effdet_torch.training.trainer import TrainingError
from ...errors import EffconvError
from .examples import TrainingSet
from .interruption import STOPPING


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches in a dataset; the rest is left out. Raises EffconvError when there is none."""
    if images < batch_size:
        raise EffconvError(
            f"{images} images to train on, fewer than a batch of {batch_size}; give a smaller batch",
            parameters={"batch": None},
        )
    return images // batch_size


def batch_places(examples: TrainingSet, epoch: int, step: int, batch_size: int) -> list[int]:
    """Places in the dataset of one batch's images, those of all processes in their order."""
    order = np.random.default_rng([examples.seed, epoch]).permutation(len(examples))
    return [int(place) for place in order[step * batch_size : (step + 1) * batch_size]]


def training_batches(
    examples: TrainingSet,
    *,
    batch_size: int,
    epochs: range,
    first_step: int = 0,
    rank: int = 0,
    processes: int = 1,
    workers: int = 0,
) -> Iterator[tuple[Tensor, Targets]]:
    """(images (b, 3, H, W), targets (b, M)) of every step from `first_step` of the first of `epochs` on.

    Each batch of `batch_size` images is shared out in equal parts, of which `rank` gets its own. The order is drawn
    from the examples' seed and the epoch. `workers` processes prepare batches; there are the same without. Raises
    EffconvError when a batch cannot be shared out equally, what an example raises of that kind, and TrainingError when
    a worker dies.
    """
    if batch_size % processes:
        raise EffconvError(f"a batch of {batch_size} images cannot be shared out among {processes} processes")
    share = batch_size // processes
    steps = steps_per_epoch(len(examples), batch_size)

    def keys() -> Iterator[list[tuple[int, int]]]:
        for epoch in epochs:
            for step in range(first_step if epoch == epochs.start else 0, steps):
                places = batch_places(examples, epoch, step, batch_size)
                yield [(epoch, place) for place in places[rank * share : (rank + 1) * share]]

    loader: DataLoader[tuple[Tensor, Targets] | EffconvError] = DataLoader(
        _Examples(examples),
        batch_sampler=keys(),
        num_workers=workers,
        collate_fn=_together,
        worker_init_fn=_settle,
        prefetch_factor=4 if workers else None,
    )
    try:
        for batch in loader:
            if isinstance(batch, EffconvError):
                raise batch
            yield batch
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise TrainingError(
            "a process that prepares images was killed, for want of memory perhaps; use fewer workers",
            parameters={"workers": None},
        ) from error


class _Examples(torch.utils.data.Dataset[tuple[Tensor, Targets] | EffconvError]):
    """The same examples, and the error in place of one that cannot be had: raised in a worker it would come with that
    process's traceback as its message.
    """

    def __init__(self, examples: TrainingSet):
        self.examples = examples

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Targets] | EffconvError:
        try:
            return self.examples[key]
        except EffconvError as error:
            return error


def _together(examples: Sequence[tuple[Tensor, Targets] | EffconvError]) -> tuple[Tensor, Targets] | EffconvError:
    found = []
    for example in examples:
        if isinstance(example, EffconvError):
            return example
        found.append(example)
    images, targets = zip(*found, strict=True)
    return torch.stack(images), batch_targets(list(targets))


def _settle(worker: int) -> None:
    torch.set_num_threads(1)
    for number in STOPPING:  # they end with the process that started them, which has its work to save first
        signal.signal(number, signal.SIG_IGN)
