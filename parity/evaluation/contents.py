"""What kept results were made of beyond their settings: the bytes of the pictures, and the code that computes."""

import functools
import hashlib
from importlib import resources
from pathlib import Path

from ...effdet_torch.preprocessing.decode import read_encoded
from ...errors import ImageError
from ..datasets.dataset import Image

PACKAGE = Path(str(resources.files(__package__.partition(".")[0]))).resolve()
# All that is computed between a picture and a metric, beside the whole of effdet_torch. What only reports is left out.
COMPUTING = (
    "ablation/bootstrap",
    "ablation/matches",
    "ablation/options",
    "ablation/output_cache",
    "ablation/registry",
    "ablation/run",
    "ablation/significance",
    "ablation/study",
    "copying",
    "distributed",
    "datasets/box_lists",
    "datasets/coco_format",
    "datasets/dataset",
    "datasets/layout",
    "datasets/layouts",
    "datasets/renumbering",
    "datasets/voc",
    "datasets/yolo",
    "evaluation/category_map",
    "evaluation/coco",
    "evaluation/detect",
    "evaluation/image_stream",
    "evaluation/pipeline",
    "mistakes/modules",
    "mistakes/network",
    "mistakes/pipeline",
)


def digest(encoded: bytes) -> str:
    """What stands for a picture's bytes."""
    return hashlib.sha256(encoded).hexdigest()


def content(image: Image) -> str | None:
    """The digest of a picture as it is now; None when it cannot be read, which whoever decodes it says."""
    try:
        return digest(read_encoded(image.path))
    except ImageError:
        return None


@functools.cache
def code_digest() -> str:
    """What stands for the code that computes results: another one as soon as a character of it differs."""
    return _digest_of(code_files())


@functools.cache
def package_digest() -> str:
    """The same of the whole of effconv but its command line: for results that hang on more than `COMPUTING`."""
    folders = ("convert", "effdet_torch", "parity")
    return _digest_of([PACKAGE / "loading.py", *(path for name in folders for path in (PACKAGE / name).rglob("*.py"))])


def _digest_of(files: list[Path]) -> str:
    found = hashlib.sha256()
    for path in sorted(files):
        text = path.read_bytes()
        found.update(f"{path.relative_to(PACKAGE).as_posix()} {len(text)}\n".encode() + text)
    return found.hexdigest()


def code_files() -> list[Path]:
    """The files of that code, in order."""
    return sorted((PACKAGE / "effdet_torch").rglob("*.py")) + [PACKAGE / "parity" / f"{name}.py" for name in COMPUTING]
