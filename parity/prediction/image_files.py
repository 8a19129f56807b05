"""Which image files are meant by files, folders and globs, and what the pictures made of them are called."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...convert.output import OutputError
from ...errors import EffconvError

# Of what is taken from a folder. Some of these TensorFlow cannot decode; those are named as such, not passed over.
ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
JPEG_ENDINGS = (".jpg", ".jpeg")
SAMPLE = 20  # pictures of a folder, at most, on which an exported file is checked, compared or calibrated


def find_images(arguments: Sequence[str]) -> list[Path]:
    """Image files in the order given, each once: files as they are, a folder's images and a glob's matches sorted.

    Folders are not searched below their first level; `folder/**/*.jpg` does that. A file that does not exist is listed,
    for whoever opens it to name. Raises EffconvError for a folder without images and a glob without matches.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        for path in _expanded(argument):
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def sampled_images(place: Path) -> list[Path]:
    """The first SAMPLE images of a folder, or the one that `place` is; raises as `find_images` does."""
    return find_images([str(place)])[:SAMPLE]


def is_named(argument: str) -> bool:
    """Whether an argument names one file itself, as a folder and a glob do not."""
    return not Path(argument).is_dir() and (not glob.has_magic(argument) or os.path.lexists(argument))


def _expanded(argument: str) -> Iterator[Path]:
    path = Path(argument)
    if is_named(argument):
        yield path
    elif path.is_dir():
        yield from _folder(path)
    else:
        matches = sorted(glob.glob(argument, recursive=True))
        if not matches:
            raise EffconvError(f"{argument}: no file matches; check the pattern and the folder it starts from")
        for match in map(Path, matches):
            if not match.is_dir():
                yield match


def _folder(folder: Path) -> list[Path]:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise EffconvError(f"{folder}: cannot be read ({error.strerror})") from error
    images = [folder / name for name in names if name.lower().endswith(ENDINGS) and not name.startswith(".")]
    if not images:
        raise EffconvError(f"{folder}: expected images in this folder ({', '.join(ENDINGS)}), found none")
    return images


def name_outputs(images: Sequence[Path], folder: Path) -> list[Path]:
    """A file in `folder` for the picture made of each image: its own name, numbered where two would share one.

    JPEGs stay JPEGs, everything else becomes PNG. Names that differ in case alone count as the same, because some file
    systems think so. Only the last part of an image's path is used, so none is outside `folder`.
    """
    used: set[str] = set()
    outputs = []
    for image in images:
        ending = image.suffix if image.suffix.lower() in JPEG_ENDINGS else ".png"
        stem, number = image.stem or "image", 1
        name = f"{stem}{ending}"
        while name.casefold() in used:
            number += 1
            name = f"{stem}-{number}{ending}"
        used.add(name.casefold())
        outputs.append(folder / name)
    return outputs


def require_no_input_among(outputs: Sequence[Path], images: Sequence[Path]) -> None:
    """Raises OutputError when a file that would be written is one of the images, by whatever path or link."""
    given = {identity: image for image in images if (identity := _identity(image))}
    for output in outputs:
        image = given.get(_identity(output) or (-1, -1))
        if image:
            raise OutputError(f"{output}: would overwrite the input {image}; choose another folder for the output")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
