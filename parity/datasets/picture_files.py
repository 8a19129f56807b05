"""Every picture of a dataset read once: whether it is there, decodes, its size, and a digest of its bytes."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ...effdet_torch.preprocessing.decode import decode, read_encoded
from ...effdet_torch.preprocessing.header import UPRIGHT, exif_orientation, header_of
from ...errors import EffconvError, ImageError
from .dataset import Dataset, Image
from .findings import (
    EMPTY,
    MISSING,
    OTHER_SIZE,
    SAME_IN_SPLITS,
    SAME_PICTURE,
    TURNED,
    UNREADABLE,
    Example,
    Finding,
    found,
)

TOGETHER = 64  # pictures that are read before progress is reported; so many at most are waited for when cut off


class PictureFile(NamedTuple):
    """What a file is. `size` is (height, width); None where not even a header tells it."""

    there: bool
    size: tuple[int, int] | None = None
    fault: str = ""  # why it cannot be decoded
    turned: bool = False  # has an EXIF orientation
    bytes: int = 0
    sha256: str = ""


def read_pictures(dataset: Dataset, report: Callable[[int, int], None]) -> list[PictureFile]:
    """Read and decode every picture, in order, on as many threads as processors. Raises nothing about a file."""
    files: list[PictureFile] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(dataset.images), TOGETHER):
            files += pool.map(_read, dataset.images[first : first + TOGETHER])
            report(len(files), len(dataset.images))
    return files


def _read(image: Image) -> PictureFile:
    if not image.path.is_file():
        return PictureFile(False)
    try:
        encoded = read_encoded(image.path)
    except ImageError as error:
        return PictureFile(True, fault=str(error))
    header = header_of(encoded)
    size = (header.height, header.width) if header else None
    turned = exif_orientation(encoded) != UPRIGHT
    fault = ""
    try:
        height, width = decode(encoded, name=image.path.name).shape[:2]
        size = height, width
    except ImageError as error:
        fault = str(error)
    return PictureFile(True, size, fault, turned, len(encoded), hashlib.sha256(encoded).hexdigest())


def picture_findings(dataset: Dataset, files: Sequence[PictureFile], others: Sequence[Dataset]) -> list[Finding]:
    """All findings about pictures; `others` are the dataset's other splits, whose files are compared byte by byte."""
    pairs = list(zip(dataset.images, files, strict=True))
    total = len(pairs)
    marked = {each["image_id"] for each in dataset.annotations}
    missing = [
        Example(where=image.path.name, values=f"expected {image.path}") for image, file in pairs if not file.there
    ]
    unreadable = [Example(where=image.path.name, values=file.fault) for image, file in pairs if file.fault]
    other_size = [
        Example(
            where=image.path.name,
            values=f"annotated {image.width} x {image.height}, the file {file.size[1]} x {file.size[0]}",
        )
        for image, file in pairs
        if file.size and file.size != (image.height, image.width)
    ]
    turned = [Example(where=image.path.name) for image, file in pairs if file.turned]
    empty = [Example(where=image.path.name) for image, _ in pairs if image.id not in marked]
    return [
        *found(MISSING, total, missing),
        *found(UNREADABLE, total, unreadable),
        *found(OTHER_SIZE, total, other_size),
        *found(TURNED, total, turned),
        *found(SAME_PICTURE, total, _twice(pairs)),
        *found(SAME_IN_SPLITS, total, _in_splits(pairs, others)),
        *found(EMPTY, total, empty if dataset.annotations else []),
    ]


def _twice(pairs: Sequence[tuple[Image, PictureFile]]) -> list[Example]:
    first: dict[str, Path] = {}
    examples = []
    for image, file in pairs:
        if file.sha256 and first.setdefault(file.sha256, image.path) != image.path:
            examples.append(Example(where=image.path.name, values=f"the same bytes as {first[file.sha256].name}"))
    named = Counter(image.path for image, _ in pairs)
    examples += [
        Example(where=path.name, values=f"the file of {times} entries") for path, times in named.items() if times > 1
    ]
    return examples


def _in_splits(pairs: Sequence[tuple[Image, PictureFile]], others: Sequence[Dataset]) -> list[Example]:
    """A file of another split is read only where one of this has as many bytes: few are, and none else can be equal."""
    digests = {file.sha256: image for image, file in pairs if file.sha256}
    sizes = {file.bytes for _, file in pairs if file.sha256}
    examples = {}
    for other in others:
        for image in other.images:
            try:
                if image.path.stat().st_size not in sizes:
                    continue
                same = digests.get(hashlib.sha256(read_encoded(image.path)).hexdigest())
            except (OSError, EffconvError):
                continue  # a check of that split says so
            if same:
                examples[same.path] = Example(
                    where=same.path.name, values=f"the same bytes as {other.split}'s {image.path.name}"
                )
    return list(examples.values())
