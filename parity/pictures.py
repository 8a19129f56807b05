"""Pictures written to files, whole or not at all."""

import io
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..convert.output import replacing
from ..convert.output_kinds import PICTURE_MARK


def write_picture(picture: Image.Image, path: Path, kind: str, **options: Any) -> None:
    """Encode a picture ("JPEG", "PNG"), marked as effconv's own, and write it. Raises OutputError where it cannot.

    Encoded in memory first: Pillow, given a file, takes the part of a write that a full disk had room for as the whole.
    """
    encoded = io.BytesIO()
    if kind == "PNG":
        mark = PngInfo()
        mark.add_text("Software", PICTURE_MARK)
        picture.save(encoded, kind, pnginfo=mark, **options)
    else:
        picture.save(encoded, kind, comment=PICTURE_MARK, **options)
    with replacing(path) as (file,):
        file.write_bytes(encoded.getvalue())
