"""Training input: cases worked out by hand, and TensorFlow's operations run with the same draws."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from effconv.effdet_torch.config import Config, get_config
from effconv.effdet_torch.preprocessing.preprocess import Preprocessor
from effconv.effdet_torch.training.augment import Augmentation, Draws, augment, draw, unchanged
from effconv.errors import ImageError

D0 = dataclasses.replace(get_config("d0"), image_size=(96, 128))
ADVPROP = dataclasses.replace(get_config("d0-advprop"), image_size=(96, 128))
BOXES = np.array([[5, 8, 40, 60], [0, 0, 3, 2], [30, 50, 79, 99]], np.float64)
CLASSES = np.array([3, 1, 7])


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def drawn(flip: bool = False, scale: float = 1.0, offset: tuple[float, float] = (0, 0)) -> Draws:
    return Draws(flip, np.float32(scale), np.float32(offset[0]), np.float32(offset[1]))


def official_example(
    pixels: np.ndarray, boxes: np.ndarray, classes: np.ndarray, config: Config, draws: Draws
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `dataset_parser` makes of an image, operation by operation, with these draws in place of its own."""
    import tensorflow as tf

    image: Any = tf.cast(pixels, tf.float32)
    if not config.unit_range:
        image -= tf.constant(config.mean, shape=(1, 1, 3), dtype=tf.float32)
        image /= tf.constant(config.std, shape=(1, 1, 3), dtype=tf.float32)
    height, width = (float(side) for side in pixels.shape[:2])
    shares = tf.constant((boxes / [height, width, height, width]).astype(np.float32))
    if draws.flip:
        image = tf.image.flip_left_right(image)
        ymin, xmin, ymax, xmax = tf.split(shares, 4, axis=1)
        shares = tf.concat([ymin, tf.subtract(1.0, xmax), ymax, tf.subtract(1.0, xmin)], 1)
    output = config.image_size
    scaled_y, scaled_x = (tf.cast(draws.scale * side, tf.int32) for side in output)
    tall, wide = (tf.cast(side, tf.float32) for side in pixels.shape[:2])
    factor = tf.minimum(tf.cast(scaled_x, tf.float32) / wide, tf.cast(scaled_y, tf.float32) / tall)
    size = [tf.cast(tall * factor, tf.int32), tf.cast(wide * factor, tf.int32)]
    offset = [
        tf.cast(tf.maximum(0.0, tf.cast(had - has, tf.float32)) * share, tf.int32)
        for had, has, share in zip(size, output, (draws.offset_y, draws.offset_x), strict=True)
    ]
    image = tf.image.resize(image, size)
    image = image[offset[0] : offset[0] + output[0], offset[1] : offset[1] + output[1]]
    image = tf.image.pad_to_bounding_box(image, 0, 0, *output)
    if config.unit_range:
        image = image * 2.0 / 255 - 1.0
    corners = shares * tf.cast(tf.stack([*size, *size]), tf.float32)
    corners -= tf.cast(tf.stack([*offset, *offset]), tf.float32)
    last = [output[0] - 1, output[1] - 1] * 2
    corners = tf.stack([tf.clip_by_value(corners[:, place], 0, last[place]) for place in range(4)], 1)
    there = ((corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1]) != 0).numpy()
    return image.numpy().transpose(2, 0, 1), corners.numpy()[there], classes[there]


@pytest.mark.tf
@pytest.mark.parametrize("config", [D0, ADVPROP], ids=["d0", "advprop"])
def test_examples_are_tensorflows(config: Config) -> None:
    generator, cut, lost = np.random.default_rng(7), 0, 0
    for number in range(60):
        height, width = (int(side) for side in generator.integers(20, 200, 2))
        corner = generator.uniform(0, 0.9, (5, 2)) * (height, width)
        boxes = np.concatenate([corner, corner + generator.uniform(0.01, 0.5, (5, 2)) * (height, width)], 1)
        boxes = np.minimum(boxes, [height, width, height, width]).round(2)
        pixels, classes = picture(height, width, number), np.arange(5)
        draws = draw(Augmentation(), generator)
        image, found, kept = augment(pixels, boxes, classes, config, draws)
        expected = official_example(pixels, boxes, classes, config, draws)
        for ours, theirs in zip((image, found, kept), expected, strict=True):
            assert ours.dtype == theirs.dtype
            assert np.array_equal(ours, theirs), (number, draws)
        cut += draws.scale > 1
        lost += len(kept) < 5
    assert cut > 10  # images larger than the input
    assert lost > 3  # boxes that are cut away


def test_without_augmentation_it_is_the_evaluation_input() -> None:
    for config in (D0, ADVPROP):
        for pixels in (picture(80, 100), picture(200, 150), picture(96, 128)):
            image, boxes, classes = unchanged(pixels, BOXES, CLASSES, config)
            expected, scale = Preprocessor(config, decode=lambda encoded, *, name, given=pixels: given)(b"")
            assert np.array_equal(image, expected)
            assert classes.tolist() == CLASSES.tolist()
            # The scaled size is cut off to whole pixels: half a pixel of difference at most.
            np.testing.assert_allclose(boxes, np.minimum(BOXES / scale, [95, 127, 95, 127]), atol=1.5)


def test_mirrored_by_hand() -> None:
    pixels = picture(96, 128)
    plain, mirrored = (augment(pixels, BOXES, CLASSES, D0, drawn(flip=flip)) for flip in (False, True))
    assert np.array_equal(mirrored.image, plain.image[:, :, ::-1])
    np.testing.assert_allclose(mirrored.boxes[0], [5, 68, 40, 120], rtol=1e-6)
    np.testing.assert_allclose(plain.boxes[0], [5, 8, 40, 60], rtol=1e-6)


def test_scaled_and_cut_by_hand() -> None:
    pixels = picture(96, 128)
    small = augment(pixels, BOXES, CLASSES, D0, drawn(scale=0.5))
    assert not small.image[:, 48:].any()  # padding: the mean colour
    assert not small.image[:, :, 64:].any()
    np.testing.assert_allclose(small.boxes[0], [2.5, 4, 20, 30], rtol=1e-6)
    large = augment(pixels, BOXES, CLASSES, D0, drawn(scale=2, offset=(0.5, 0.25)))
    assert large.image[:, -1, -1].any()
    # Twice as large, less 48 rows and 32 columns; the second box is cut away, the third clipped.
    np.testing.assert_allclose(large.boxes, [[0, 0, 32, 88], [12, 68, 95, 127]], rtol=1e-6)
    assert large.classes.tolist() == [3, 7]


def test_an_image_of_which_nothing_would_be_left() -> None:
    with pytest.raises(ImageError, match=r"400 x 2 pixels would be resized to 12 x 0"):
        augment(picture(2, 400), BOXES[:0], CLASSES[:0], D0, drawn(scale=0.1))


def test_draws() -> None:
    generator = np.random.default_rng(0)
    found = [draw(Augmentation(jitter_min=0.5, jitter_max=1.5), generator) for _ in range(2000)]
    assert {each.flip for each in found} == {True, False}
    assert 0.45 < np.mean([each.flip for each in found]) < 0.55
    scales = np.array([each.scale for each in found])
    assert 0.5 <= scales.min() < 0.51 < 1.49 < scales.max() <= 1.5
    assert not any(draw(Augmentation(flip=False), generator).flip for _ in range(20))
    # Whatever is asked for, as many numbers are drawn.
    one, other = np.random.default_rng(1), np.random.default_rng(1)
    draw(Augmentation(flip=False), one)
    draw(Augmentation(), other)
    assert one.random() == other.random()


@pytest.mark.parametrize(("low", "high"), [(0, 1), (1.5, 1), (0.1, 11)])
def test_jitter_out_of_range(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="0 < minimum <= maximum <= 10"):
        Augmentation(jitter_min=low, jitter_max=high)
