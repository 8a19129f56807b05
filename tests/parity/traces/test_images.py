"""Images to compare on: noise that is the same everywhere, photographs placed as the official pipeline places them."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effconv.effdet_torch.config import Config, get_config
from effconv.errors import ImageError
from effconv.parity.traces.images import noise, photograph
from scripts import load_script

D0, LITE, ADVPROP = (get_config(name) for name in ("d0", "lite0", "efficientdet-d0-advprop"))
NOISE = "d5234b333fb652f84bbc578c3453d2030c2c52d079d0da7af25e77bef9ccc0d7"


def test_noise_is_the_same_on_every_machine() -> None:
    assert hashlib.sha256(noise(3, (5, 7)).tobytes()).hexdigest() == NOISE


def test_noise_is_standard_normal_and_seeded() -> None:
    one = noise(0, (96, 64))
    assert (one.shape, one.dtype, one.flags.c_contiguous) == ((1, 3, 96, 64), np.float32, True)
    assert abs(one.mean()) < 0.03
    assert abs(one.std() - 1) < 0.03
    assert not np.array_equal(one, noise(1, (96, 64)))
    # Drawn as (H, W, 3), so that TensorFlow's side sees the numbers in the order of their seed.
    drawn = np.random.RandomState(0).standard_normal(96 * 64 * 3).astype(np.float32)
    assert np.array_equal(one.transpose(0, 2, 3, 1).ravel(), drawn)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A 40 x 30 (width x height) PNG of random pixels."""
    path = tmp_path / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def normalised(path: Path, config: Config) -> np.ndarray:
    pixels = np.asarray(Image.open(path), np.float64)
    if config.unit_range:
        return pixels / 127.5 - 1
    return (pixels - np.array(config.mean)) / np.array(config.std)


@pytest.mark.parametrize("config", [D0, LITE, ADVPROP], ids=lambda config: config.name)
@pytest.mark.parametrize("size", [(30, 64), (48, 40)])
def test_a_photograph_that_fits_is_normalised_and_padded_bottom_and_right(
    size: tuple[int, int], config: Config, picture: Path
) -> None:
    found = photograph(picture, config, size)
    assert (found.shape, found.dtype) == ((1, 3, *size), np.float32)
    inside = found[0, :, :30, :40].transpose(1, 2, 0)
    assert np.abs(inside - normalised(picture, config)).max() < 1e-6 * 3
    padding = np.ones(size, bool)
    padding[:30, :40] = False
    assert set(found[0, :, padding].ravel()) == {-1.0 if config.unit_range else 0.0}


# Input (height, width) of the picture is (30, 40): what it is scaled to is what a side allows, rounded down.
@pytest.mark.parametrize(
    ("size", "scaled"), [((60, 100), (60, 80)), ((64, 60), (45, 60)), ((15, 17), (12, 17)), ((16, 16), (12, 16))]
)
def test_a_photograph_keeps_its_aspect_ratio(size: tuple[int, int], scaled: tuple[int, int], picture: Path) -> None:
    found = photograph(picture, ADVPROP, size)
    seen = (found[0] != -1).any(0)
    assert (seen.any(1).sum(), seen.any(0).sum()) == scaled
    assert seen[: scaled[0], : scaled[1]].mean() > 0.99


def test_a_photograph_is_interpolated_between_pixel_centres_without_smoothing(tmp_path: Path) -> None:
    path = tmp_path / "ramp.png"
    ramp = np.arange(0, 256, 4, dtype=np.uint8)[None, :, None]
    Image.fromarray(np.broadcast_to(ramp, (64, 64, 3)).copy()).save(path)
    double = photograph(path, ADVPROP, (128, 128))[0, 0, 64]
    centres = np.clip((np.arange(128) + 0.5) / 2 - 0.5, 0, 63) * 4
    assert np.abs(double - (centres / 127.5 - 1)).max() < 1e-6
    # A quarter of the size takes two of every four pixels, where smoothing would take more.
    checks = tmp_path / "checks.png"
    line = np.zeros((64, 64, 3), np.uint8)
    line[:, 0::4] = 255
    Image.fromarray(line).save(checks)
    quarter = photograph(checks, ADVPROP, (16, 16))
    assert np.unique(quarter).tolist() == [-1.0]


def test_grey_palette_and_transparent_images_become_rgb(tmp_path: Path, picture: Path) -> None:
    for mode in ("L", "P", "RGBA", "LA", "1"):
        path = tmp_path / f"{mode}.png"
        Image.open(picture).convert(mode).save(path)
        assert photograph(path, D0, (32, 40)).shape == (1, 3, 32, 40)


def test_a_photograph_too_narrow_for_one_pixel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "line.png"
    Image.new("RGB", (300, 1), "white").save(path)
    with pytest.raises(ImageError, match=r"line\.png: 300 x 1 pixels would be resized to 64 x 0"):
        photograph(path, ADVPROP, (64, 64))


@pytest.mark.parametrize("length", [0, 20, 1500])
def test_a_damaged_image_is_refused_by_name(length: int, tmp_path: Path, picture: Path) -> None:
    path = tmp_path / "damaged.png"
    path.write_bytes(picture.read_bytes()[:length])
    with pytest.raises(ImageError, match=r"damaged\.png: not a readable image"):
        photograph(path, D0, (32, 32))


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.png"):
        with pytest.raises(ImageError, match="not a readable image"):
            photograph(path, D0, (32, 32))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("case", "config", "size"),
    [("d0_512", D0, (512, 512)), ("wxh_640x384", D0, (384, 640)), ("lite0_320", LITE, (320, 320))],
    ids=["d0", "wide", "lite0"],
)
@pytest.mark.parametrize(("name", "file"), [("img1", "img1"), ("odd", "odd_333x257"), ("street", "street")])
def test_a_photograph_is_what_the_official_pipeline_makes_of_its_file(
    name: str, file: str, case: str, config: Config, size: tuple[int, int], shared: Path
) -> None:
    goldens = shared / "goldens"
    golden = load_script(goldens / "golden_io.py").Golden(goldens / "preprocess.npz")
    found = photograph(goldens / "images" / f"{file}.jpg", config, size)
    assert golden.compare(f"{name}/{case}", found[0].transpose(1, 2, 0)) == 0
