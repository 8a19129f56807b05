"""Where in a BMP its rows are."""

import numpy as np
import pytest

from effconv.effdet_torch.preprocessing.bmp import decode_bmp
from effconv.errors import ImageError
from encoded_images import bmp


def with_start(encoded: bytes, start: int) -> bytes:
    """The BMP that says that its rows begin there."""
    return encoded[:10] + start.to_bytes(4, "little", signed=True) + encoded[14:]


def test_rows_may_begin_where_the_file_does() -> None:
    """TensorFlow asks only that it is not before: header and all are then pixels."""
    encoded = with_start(bmp(18, 2, 24)[:112], 0)  # 2 rows of 56 bytes
    rows = np.frombuffer(encoded, np.uint8).reshape(2, 56)[::-1, :54].reshape(2, 18, 3)
    assert np.array_equal(decode_bmp(encoded, "a.bmp"), rows[..., ::-1])


def test_rows_that_begin_before_the_file_are_refused() -> None:
    encoded = bmp(18, 2, 24)[: 112 - 1]
    with pytest.raises(ImageError, match=r"a\.bmp: .*a BMP whose 111 bytes are not its header and 2 rows of 56"):
        decode_bmp(with_start(encoded, -1), "a.bmp")


@pytest.mark.tf
def test_tensorflow_reads_such_rows_too() -> None:
    import tensorflow

    encoded = with_start(bmp(18, 2, 24)[:112], 0)
    assert np.array_equal(tensorflow.io.decode_bmp(encoded, channels=3).numpy(), decode_bmp(encoded, "a.bmp"))
    with pytest.raises(tensorflow.errors.InvalidArgumentError):
        tensorflow.io.decode_bmp(with_start(encoded[:-1], -1))
