"""A network's inputs, raw outputs and what is selected of them, for the images of a dataset.

Computed once and kept on disk, memory-mapped.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ...effdet_torch.network import Network
from ...effdet_torch.postprocessing.candidates import Selection, chosen_codes, flatten_levels
from ...effdet_torch.preprocessing.preprocess import Preprocessor
from ...errors import EffconvError
from ...strict_json import json_text
from ..datasets.dataset import Image
from ..evaluation.contents import content
from ..evaluation.image_stream import stream

Report = Callable[[int, int], None]
SELECTED = {"logits": np.float32, "anchors": np.int32, "classes": np.int16, "codes": np.float32}


class Inputs(NamedTuple):
    """Inputs of all images: (I, 3, H, W) float32, and original pixels per pixel of each, (I,)."""

    images: NDArray[np.float32]
    scales: NDArray[np.float32]


class Outputs(NamedTuple):
    """Raw outputs of all images: (I, N, C) logits and (I, N, 4) codes, N in the anchors' order."""

    logits: NDArray[np.float32]
    codes: NDArray[np.float32]
    seconds_per_image: float  # of the network alone, the median over batches


class Selected(NamedTuple):
    """The pairs of anchor and class of all images that go on to suppression, K of each, and their box codes."""

    logits: NDArray[np.float32]  # (I, K)
    anchors: NDArray[np.int32]  # (I, K)
    classes: NDArray[np.int16]  # (I, K), from 0
    codes: NDArray[np.float32]  # (I, K, 4)

    def of(self, place: int) -> tuple[Selection, torch.Tensor]:
        """One image's as `Postprocessor.selected` takes them."""
        logits, anchors, classes, codes = (torch.from_numpy(np.array(each[place : place + 1])) for each in self)
        return Selection(logits, anchors.long(), classes.long()), codes


class OutputCache:
    """A folder of arrays, each under the digest of all that it depends on, the pictures' bytes among it.

    `contents` (`contents.content`) are those of `images` when this was made.
    """

    def __init__(self, folder: Path, images: Sequence[Image], batch: int, workers: int, device: str = "cpu"):
        self.folder, self.images, self.batch, self.workers, self.device = folder, images, batch, workers, device
        self.contents = [content(image) for image in images]

    def inputs(self, key: Mapping[str, Any], preprocess: Preprocessor, report: Report | None = None) -> Inputs:
        """Inputs by `preprocess`, which `key` stands for. Raises EffconvError for an image that cannot be read."""
        count, size = len(self.images), preprocess.size or preprocess.config.image_size
        with self._entry({"inputs": key}) as folder:
            if folder:
                images = _memmap(folder / "images.npy", (count, 3, *size))
                scales = np.zeros(count, np.float32)
                done = 0
                for part in stream(self.images, preprocess, self.batch, self.workers):
                    if part.failures:
                        raise EffconvError(f"{part.failures[0][1]}; leave the image out of the dataset to ablate on it")
                    rows = slice(done, done + len(part.images))
                    images[rows] = part.inputs[: len(part.images)].numpy()
                    scales[rows] = part.scales[: len(part.images)].numpy()
                    done += len(part.images)
                    if report:
                        report(done, count)
                images.flush()
                np.save(folder / "scales.npy", scales)
        place = self._place({"inputs": key})
        return Inputs(np.load(place / "images.npy", mmap_mode="r"), np.load(place / "scales.npy"))

    def outputs(
        self, key: Mapping[str, Any], make: Callable[[], Network], inputs: Inputs, report: Report | None = None
    ) -> Outputs:
        """Raw outputs of the network that `make` makes, for `inputs`; `key` stands for both."""
        count = len(self.images)
        with self._entry({"outputs": key}) as folder:
            if folder:
                network = make()
                arrays: list[np.memmap[Any, np.dtype[np.float32]]] = []
                seconds = []
                for start in range(0, count, self.batch):
                    given = inputs.images[start : start + self.batch]
                    rows = slice(start, start + len(given))
                    # Always whole batches: a network may round a smaller one differently.
                    batch = torch.zeros(self.batch, *given.shape[1:])
                    batch[: len(given)] = torch.from_numpy(np.array(given))
                    began = time.perf_counter()
                    with torch.inference_mode():
                        made = network(batch.to(self.device))
                        logits, codes = ([level[: len(given)].float().cpu() for level in kind] for kind in made)
                    seconds.append((time.perf_counter() - began) / self.batch)
                    flat = flatten_levels(logits, network.config.num_classes), flatten_levels(codes, 4)
                    if not arrays:
                        arrays = [
                            _memmap(folder / f"{name}.npy", (count, *each.shape[1:]))
                            for name, each in zip(("logits", "codes"), flat, strict=True)
                        ]
                    for array, each in zip(arrays, flat, strict=True):
                        array[rows] = each.numpy()
                    if report:
                        report(rows.stop, count)
                for array in arrays:
                    array.flush()
                (folder / "seconds.json").write_text(json_text(float(np.median(seconds))))
        place = self._place({"outputs": key})
        logits, codes = (np.load(place / f"{name}.npy", mmap_mode="r") for name in ("logits", "codes"))
        return Outputs(logits, codes, json.loads((place / "seconds.json").read_text()))

    def selected(
        self, key: Mapping[str, Any], select: Callable[[torch.Tensor], Selection], outputs: Outputs
    ) -> Selected:
        """What `select` takes of `outputs`; `key` stands for both."""
        count = len(self.images)
        with self._entry({"selected": key}) as folder:
            if folder:
                arrays: list[Any] = []
                for place in range(count):
                    logits, codes = (torch.from_numpy(np.array(each[place : place + 1])) for each in outputs[:2])
                    selection = select(logits)
                    row = *selection, chosen_codes(selection, codes)
                    if not arrays:
                        arrays = [
                            _memmap(folder / f"{name}.npy", (count, *each.shape[1:]), dtype)
                            for (name, dtype), each in zip(SELECTED.items(), row, strict=True)
                        ]
                    for array, each in zip(arrays, row, strict=True):
                        array[place] = each[0].numpy()
                for array in arrays:
                    array.flush()
        stored = self._place({"selected": key})
        return Selected(*(np.load(stored / f"{name}.npy", mmap_mode="r") for name in SELECTED))

    def forget(self, keys: Sequence[Mapping[str, Any]]) -> None:
        """Remove entries."""
        for key in keys:
            shutil.rmtree(self._place(key), ignore_errors=True)

    def _place(self, key: Mapping[str, Any]) -> Path:
        images = [[image.id, each] for image, each in zip(self.images, self.contents, strict=True)]
        everything = {**key, "images": images, "batch": self.batch}
        return self.folder / hashlib.sha256(json_text(everything, sort_keys=True).encode()).hexdigest()[:24]

    @contextlib.contextmanager
    def _entry(self, key: Mapping[str, Any]) -> Iterator[Path | None]:
        """A folder to fill, which takes its place when the block is done; None where there is one already."""
        place = self._place(key)
        if place.is_dir():
            yield None
            return
        unfinished = place.with_name(place.name + ".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            yield unfinished
            unfinished.rename(place)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _memmap(path: Path, shape: tuple[int, ...], dtype: type = np.float32) -> np.memmap[Any, Any]:
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    # Room for all of it now: on a full disk, writing into a mapped file kills the process.
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
