"""Pictures written to files, whole or not at all."""

import io
from pathlib import Path
from typing import Any

from PIL import Image

from ..convert.output import replacing


def write_picture(picture: Image.Image, path: Path, kind: str, **options: Any) -> None:
    """Encode a picture ("JPEG", "PNG") and write it. Raises OutputError when it cannot be written.

    Encoded in memory first: Pillow, given a file, takes the part of a write that a full disk had room for as the whole.
    """
    encoded = io.BytesIO()
    picture.save(encoded, kind, **options)
    with replacing(path) as (file,):
        file.write_bytes(encoded.getvalue())
