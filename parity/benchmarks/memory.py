"""A batch that memory has no place for: refused before it is made, or in a line when it turns out."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import EffconvError

MEMINFO = Path("/proc/meminfo")
FLOAT32 = 4  # bytes
ASKED = re.compile(r"tried to allocate ([\d.]+ \w+)", re.IGNORECASE)  # PyTorch's message, of CPUs and of CUDA


def available_bytes() -> int | None:
    """What the system can give without swapping; None where it does not say."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", MEMINFO.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


@contextlib.contextmanager
def batch_in_memory(batch: int, size: tuple[int, int]) -> Iterator[None]:
    """Work on a float32 batch of images of (height, width) pixels.

    Raises EffconvError at once where the images alone are larger than the memory that is available, and when PyTorch
    finds no memory in the block.
    """
    height, width = size
    needed, available = batch * 3 * height * width * FLOAT32, available_bytes()
    what = f"a batch of {batch} images of {height}x{width} needs {_gigabytes(needed)} for the images alone"
    free = "" if available is None else f", and {_gigabytes(available)} of memory are available"
    advice = "take a smaller batch or size"
    if available is not None and needed > available:
        raise EffconvError(f"{what}{free}; {advice}", parameters={"batch": None, "size": None})
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        asked = ASKED.search(str(error))
        if not asked and not isinstance(error, MemoryError):
            raise
        more = f"; {asked[1]} more at once were refused" if asked else ""
        raise EffconvError(f"{what}{free}{more}; {advice}", parameters={"batch": None, "size": None}) from error


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
