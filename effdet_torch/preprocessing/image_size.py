"""What an image file may claim before anything is allocated for it."""

from ...errors import ImageError

MAX_BYTES = 2**28  # of a file: 256 MiB
MAX_PIXELS = 2**26  # width x height: 8192 x 8192, 192 MiB decoded. TensorFlow's own limit is 2**29 values.
MAX_SIDE = 65_500  # libjpeg's, and so TensorFlow's for a JPEG; here it holds for every format


def require_size(width: int, height: int, name: str) -> None:
    """Raises ImageError unless an image of `width` x `height` pixels exists and fits within the limits.

    A few bytes can declare 60000 x 60000 pixels; this is asked before the memory is.
    """
    if width < 1 or height < 1:
        raise ImageError(f"{name}: not a readable image (it declares {width} x {height} pixels); encode it again")
    if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
        raise ImageError(
            f"{name}: {width} x {height} pixels, and effconv decodes up to {MAX_PIXELS:,} pixels "
            f"and {MAX_SIDE:,} a side; scale the image down first"
        )


def damaged(name: str, reason: str) -> ImageError:
    """The error for a file that TensorFlow refuses too, or that it would decode to something nobody meant."""
    return ImageError(f"{name}: not a readable image ({reason}); restore the file, or encode it again")


def undecodable(name: str, reason: str) -> ImageError:
    """The error for a file whose pixels cannot be had exactly as TensorFlow has them."""
    return ImageError(f"{name}: cannot be decoded as TensorFlow does ({reason}); save it as an 8-bit RGB PNG or a JPEG")
