"""Decoding and preprocessing beside TensorFlow, run live: the same pixels, to the last bit, or a refusal."""

import re
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effconv.effdet_torch.config import Config, get_config
from effconv.effdet_torch.preprocessing.decode import decode
from effconv.effdet_torch.preprocessing.preprocess import Preprocessor
from effconv.errors import ImageError
from encoded_images import SIGNATURE, chunk, jpegs, others, pngs, saved, scene, swallowed

pytestmark = pytest.mark.tf

D0, LITE, ADVPROP = (get_config(name) for name in ("d0", "lite0", "d0-advprop"))
KINDS = {"jpeg": jpegs, "png": pngs, "other": others}
ENDINGS = {"jpeg": b"\xff\xd9", "png": chunk(b"IEND", b""), "gif": b"\0;", "bmp": bytes(5)}
CORRUPTIONS = 2000


def official_decode(encoded: bytes) -> np.ndarray | None:
    """What TensorFlow decodes; None where it refuses."""
    import tensorflow as tf

    try:
        return tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy()
    except tf.errors.OpError:
        return None


def official_input(encoded: bytes, config: Config, size: tuple[int, int]) -> tuple[np.ndarray, np.float32]:
    """((H, W, 3), scale) by the operations of `dataloader.py: DetectionInputProcessor`, run one by one.

    Inside a graph TensorFlow's optimiser may replace the division by a multiplication, which rounds differently.
    """
    import tensorflow as tf

    mean, std = (0.0, 1.0) if config.unit_range else (config.mean, config.std)
    image = tf.cast(tf.io.decode_image(encoded, channels=3, expand_animations=False), tf.float32)
    image -= tf.constant(mean, shape=(1, 1, 3), dtype=tf.float32)
    image /= tf.constant(std, shape=(1, 1, 3), dtype=tf.float32)
    height, width = (tf.cast(side, tf.float32) for side in image.shape[:2])
    scale = tf.minimum(tf.cast(size[1], tf.float32) / width, tf.cast(size[0], tf.float32) / height)
    image = tf.image.resize(image, [tf.cast(height * scale, tf.int32), tf.cast(width * scale, tf.int32)])
    image = tf.image.pad_to_bounding_box(image[: size[0], : size[1]], 0, 0, *size)
    if config.unit_range:
        image = image * 2.0 / 255 - 1.0
    return image.numpy(), (1.0 / scale).numpy()


def require_equal(encoded: bytes, config: Config, size: tuple[int, int], name: str) -> None:
    expected, scale = official_input(encoded, config, size)
    image, found = Preprocessor(config, size)(encoded, name=name)
    assert np.array_equal(image, expected.transpose(2, 0, 1)), name
    assert found == scale, name


@pytest.mark.parametrize("kinds", KINDS)
def test_every_kind_of_image_has_tensorflow_s_pixels(kinds: str) -> None:
    for kind, encoded in KINDS[kinds]():
        expected = official_decode(encoded)
        assert expected is not None, kind
        if kind == "gif transparent":  # TensorFlow's releases differ on it
            with pytest.raises(ImageError):
                decode(encoded)
        else:
            assert np.array_equal(decode(encoded), expected), kind


def test_a_jpeg_whose_end_is_swallowed_is_refused_by_both() -> None:
    assert official_decode(swallowed()) is None
    with pytest.raises(ImageError, match="Corrupt JPEG data"):
        decode(swallowed())


def corrupt(encoded: bytes, format_name: str, rng: np.random.Generator) -> bytes:
    """The bytes cut, ended early, changed, inserted into, shortened, or a whole piece of the format taken elsewhere."""
    damaged, place = bytearray(encoded), int(rng.integers(2, len(encoded)))
    match rng.integers(6):
        case 0:
            damaged = damaged[:place]
        case 1:
            damaged = damaged[:place] + ENDINGS[format_name]
        case 2:
            for _ in range(rng.integers(1, 10)):
                damaged[rng.integers(len(damaged))] = rng.integers(256)
        case 3:
            damaged[place:place] = rng.bytes(8)
        case 4:
            del damaged[place : place + int(rng.integers(1, 30))]
        case 5:
            pieces = split(encoded, format_name)
            moved = pieces.pop(int(rng.integers(len(pieces))))
            for _ in range(rng.integers(3)):  # lost, moved, or doubled
                pieces.insert(int(rng.integers(len(pieces) + 1)), moved)
            damaged = b"".join(pieces)
    whole = bytes(damaged)
    return with_checksums(whole) if whole.startswith(SIGNATURE) and rng.random() < 0.5 else whole


def split(encoded: bytes, format_name: str) -> list[bytes]:
    """PNG chunks, JPEG segments, GIF blocks (roughly: at what looks like their beginnings)."""
    starts = {"png": rb"(?=....(?:IHDR|PLTE|IDAT|IEND|tRNS|gAMA|sRGB|sBIT|tEXt))", "jpeg": rb"(?=\xff[\xc0-\xfe])"}
    return re.split(starts.get(format_name, rb"(?=[!,;])"), encoded, flags=re.DOTALL)


def with_checksums(encoded: bytes) -> bytes:
    """A PNG with the checksums its chunks should have, as far as they can be made out."""
    parts, position = [SIGNATURE], len(SIGNATURE)
    while position + 12 <= len(encoded):
        length, kind = struct.unpack_from(">I4s", encoded, position)
        if position + 12 + length > len(encoded):
            break
        parts.append(chunk(kind, encoded[position + 8 : position + 8 + length]))
        position += 12 + length
    return b"".join(parts) + encoded[position:]


@pytest.mark.parametrize(("format_name", "most_refused"), [("jpeg", 0.16), ("png", 0.01), ("gif", 0.16), ("bmp", 0.0)])
def test_corrupt_images_are_refused_or_have_tensorflow_s_pixels(format_name: str, most_refused: float) -> None:
    images = [encoded for kinds in KINDS.values() for kind, encoded in kinds() if kind.startswith(format_name)]
    rng, outcomes = np.random.default_rng(7), Counter[str]()
    for _ in range(CORRUPTIONS):
        damaged = corrupt(images[rng.integers(len(images))], format_name, rng)
        expected = official_decode(damaged)
        try:
            found = decode(damaged)
        except ImageError:
            outcomes["both refuse" if expected is None else "only effconv refuses"] += 1
            continue
        assert expected is not None, damaged
        assert np.array_equal(found, expected), damaged
        outcomes["same pixels"] += 1
    print(format_name, dict(outcomes))
    assert min(outcomes["same pixels"], outcomes["both refuse"]) > 0.01 * CORRUPTIONS
    assert outcomes["only effconv refuses"] <= most_refused * CORRUPTIONS


@pytest.mark.parametrize("config", [D0, LITE, ADVPROP], ids=lambda config: config.name)
@pytest.mark.parametrize("size", [(128, 128), (96, 160), (7, 5)])
def test_generated_images_have_tensorflow_s_input(config: Config, size: tuple[int, int]) -> None:
    for height, width in ((83, 65), (128, 128), (1, 1), (3, 200), (301, 40), (97, 129)):
        if min(size[0] / height, size[1] / width) * min(height, width) > 1:
            require_equal(saved(scene(height, width), "JPEG"), config, size, f"{width} x {height}")


def test_long_images_have_tensorflow_s_input() -> None:
    for height, width in ((40, 10000), (10000, 40)):
        require_equal(saved(scene(height, width), "JPEG"), D0, (512, 512), f"{width} x {height}")


def test_tensorflow_refuses_too_narrow_an_image_too() -> None:
    import tensorflow as tf

    encoded = saved(scene(10000, 1), "PNG")
    with pytest.raises(tf.errors.InvalidArgumentError):
        official_input(encoded, D0, (512, 512))
    with pytest.raises(ImageError):
        Preprocessor(D0)(encoded)


@pytest.mark.shared
@pytest.mark.parametrize("size", [(512, 512), (384, 640)], ids=["d0", "wide"])
def test_coco_images_have_tensorflow_s_input(size: tuple[int, int], shared: Path) -> None:
    paths = sorted((shared / "coco" / "val2017_66" / "val2017").glob("*.jpg"))
    assert len(paths) == 66
    for path in paths:
        encoded: Any = path.read_bytes()
        assert np.array_equal(decode(encoded), official_decode(encoded)), path.name
        require_equal(encoded, D0, size, path.name)
