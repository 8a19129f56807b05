"""Images of a dataset, decoded and preprocessed ahead of the network by worker processes, in batches of one size."""

import signal
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...effdet_torch.preprocessing.decode import read_encoded
from ...effdet_torch.preprocessing.preprocess import Preprocessor
from ...errors import ImageError
from ..datasets.dataset import Image
from .contents import digest


class Batch(NamedTuple):
    """Some images ready for the network. `inputs` always has the batch size's rows; those after `images` are zero.

    The size never changes, because a network may round a smaller batch differently.
    """

    images: list[Image]
    contents: list[str]  # digests of their files (`contents.digest`)
    inputs: Tensor  # (B, 3, H, W) float32
    scales: Tensor  # (B,) float32, original pixels per input pixel
    failures: list[tuple[Image, str]]  # images that could not be read, and why


class _Inputs(Dataset[Any]):
    def __init__(self, images: Sequence[Image], preprocess: Preprocessor):
        self.images, self.preprocess = images, preprocess

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> tuple[int, Any, Any, str]:
        path = self.images[place].path
        try:
            encoded = read_encoded(path)
            image, scale = self.preprocess(encoded, name=str(path))
        except ImageError as error:
            return place, None, str(error), ""
        return place, image, scale, digest(encoded)


def _ignore_interruption(worker: int) -> None:
    """Leave Ctrl-C, which a terminal sends to all processes, to the one that ends the others.

    A worker that ends by itself first waits until what it has read is taken: seconds, as nobody takes it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def stream(images: Sequence[Image], preprocess: Preprocessor, batch: int, workers: int) -> Iterator[Batch]:
    """Batches of up to `batch` images, in order. `workers` processes prepare them; 0 prepares them in this one.

    The processes begin at once, not when the first batch is asked for.
    """
    loader: DataLoader[Any] = DataLoader(
        _Inputs(images, preprocess),
        batch_size=batch,
        num_workers=workers,
        collate_fn=list,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_ignore_interruption if workers else None,
    )
    return _batches(iter(loader), images, preprocess, batch)


def _batches(loaded: Iterator[Any], images: Sequence[Image], preprocess: Preprocessor, batch: int) -> Iterator[Batch]:
    for rows in loaded:
        good = [(images[place], *rest) for place, *rest in rows if rest[0] is not None]
        failures = [(images[place], reason) for place, image, reason, _ in rows if image is None]
        inputs = np.zeros((batch, 3, *(preprocess.size or preprocess.config.image_size)), np.float32)
        scales = np.ones(batch, np.float32)
        for row, (_, image, scale, _) in enumerate(good):
            inputs[row], scales[row] = image, scale
        read, contents = [each[0] for each in good], [each[3] for each in good]
        yield Batch(read, contents, torch.from_numpy(inputs), torch.from_numpy(scales), failures)
