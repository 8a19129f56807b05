"""One array of a recorded trace: an `.npy` inside an uncompressed archive, written and strictly read.

numpy's own reader parses a header as Python and trusts its sizes, so a damaged or hostile one ends in errors of many
kinds, or in memory taken for values that are not there. Here only what `write_array` writes is understood.
"""

import math
import re
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

PART = 1 << 20  # bytes read at once
MAGIC = b"\x93NUMPY\x01\x00"
HEADER = re.compile(
    rb"\{'descr': '(<f4|<U[1-9][0-9]{0,8})', 'fortran_order': False, "
    rb"'shape': \(((?:[0-9]{1,10}, ?)*(?:[0-9]{1,10})?)\), \} *\n"
)


def write_array(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    """Add `array`, float32 or one text, to an archive as member `name`.npy."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)


def read_array(archive: zipfile.ZipFile, name: str, largest: int) -> NDArray[Any]:
    """Member `name`.npy of an archive that is `largest` bytes long, its checksum verified.

    Raises KeyError when there is none, ValueError when it is not what `write_array` writes, and what zipfile raises.
    """
    information = archive.getinfo(f"{name}.npy")
    # Stored as it is, so that no member can unpack to more than the file holds.
    if information.compress_type != zipfile.ZIP_STORED or information.file_size > largest:
        raise ValueError("compressed, or larger than the file")
    with archive.open(information) as member:
        start = member.read(len(MAGIC) + 2)
        header = member.read(int.from_bytes(start[-2:], "little"))
        match = HEADER.fullmatch(header)
        if not start.startswith(MAGIC) or not match:
            raise ValueError("not an array of float32 or text, rows first, in array format 1.0")
        dtype = np.dtype(match[1].decode())
        shape = tuple(int(number) for number in match[2].split(b",") if number.strip())
        count = math.prod(shape)
        if member.tell() + count * dtype.itemsize != information.file_size:
            raise ValueError(f"{information.file_size} bytes do not hold {shape} of {dtype}")
        array = np.empty(count, dtype)
        content = memoryview(array.view(np.uint8))  # type: ignore[arg-type]
        filled = 0
        while filled < len(content) and (part := member.read(PART)):
            content[filled : filled + len(part)] = part
            filled += len(part)
        if filled < len(content) or member.read(1):  # reading to the end verifies the archive's checksum
            raise ValueError("cut short or too long")
    return array.reshape(shape)
