"""From image bytes to the network's input: the official records, and what needs no records to be right."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import effconv
from effconv.effdet_torch.config import Config, ConfigError, get_config
from effconv.effdet_torch.preprocessing.decode import decode_with_pillow
from effconv.effdet_torch.preprocessing.preprocess import Preprocessor, preprocess, scaled_size
from effconv.effdet_torch.preprocessing.resize import resize_antialiased
from effconv.errors import ImageError
from encoded_images import saved, scene
from scripts import load_script

D0, LITE, ADVPROP = (get_config(name) for name in ("d0", "lite0", "d0-advprop"))
FILES = {"img1": "img1", "odd": "odd_333x257", "street": "street"}
CONFIGS = {"lite0_320": LITE, "advprop_512": ADVPROP}
CASES = ("d0_512", "d1_640", "wxh_640x384", "odd_129x97", "lite0_320", "d7_1536", "advprop_512")


@pytest.fixture(scope="module")
def official(shared: Path) -> SimpleNamespace:
    """The records of the official input processing, their settings, and the folder of images."""
    folder = shared / "goldens"
    golden = load_script(folder / "golden_io.py").Golden(folder / "preprocess.npz")
    return SimpleNamespace(golden=golden, meta=json.loads(str(golden.z["meta"])), images=folder / "images")


@pytest.mark.shared
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("image", FILES)
def test_official_records_bit_for_bit(image: str, case: str, official: SimpleNamespace) -> None:
    encoded = (official.images / f"{FILES[image]}.jpg").read_bytes()
    meta = official.meta[f"{image}/{case}"]
    preprocessor = Preprocessor(CONFIGS.get(case, D0), tuple(meta["target_hw"]))
    found, scale = preprocessor(encoded)
    assert (found.dtype, scale.dtype) == (np.float32, np.float32)
    assert official.golden.compare(f"{image}/{case}", found.transpose(1, 2, 0)) == 0
    assert scale == np.float32(meta["image_scale_to_original"])
    found, _ = dataclasses.replace(preprocessor, decode=decode_with_pillow)(encoded)
    assert official.golden.compare(f"{image}/{case}/pil_decoded", found.transpose(1, 2, 0)) == 0


@pytest.mark.shared
@pytest.mark.parametrize("image", FILES)
def test_official_records_of_decoded_pixels(image: str, official: SimpleNamespace) -> None:
    encoded = (official.images / f"{FILES[image]}.jpg").read_bytes()
    pixels = Preprocessor(D0).decode(encoded, name=image)
    assert official.golden.compare(f"{image}/decoded_uint8", pixels) == 0
    assert pixels.sum(dtype=np.int64) == official.meta[image]["tf_decode_sum"]
    pillow = decode_with_pillow(encoded)
    assert pillow.sum(dtype=np.int64) == official.meta[image]["pil_decode_sum"]
    assert (pillow != pixels).sum() == official.meta[image]["n_diff"]


@pytest.mark.shared
def test_official_records_of_resized_noise(official: SimpleNamespace) -> None:
    names = [name for name in official.golden.names if name.startswith("rand_")]
    assert len(names) == 4
    for name in names:
        given, wanted = (tuple(map(int, size.split("x"))) for size in name.removeprefix("rand_").split("_to_"))
        pixels = np.random.RandomState(given[0] * 1000 + given[1]).randint(0, 256, (*given, 3)).astype(np.uint8)
        preprocessor = Preprocessor(D0, wanted, decode=lambda encoded, *, name, pixels=pixels: pixels)
        assert official.golden.compare(name, preprocessor(b"")[0].transpose(1, 2, 0)) == 0


@pytest.mark.shared
def test_official_records_of_scaled_sizes(official: SimpleNamespace) -> None:
    table = official.golden.z["scale_table"]
    assert len(table) == 4800
    for height, width, *target, scaled_height, scaled_width, _, scale in table:
        found, to_original = scaled_size((int(height), int(width)), (int(target[0]), int(target[1])))
        assert (found, to_original) == ((scaled_height, scaled_width), scale), (height, width, target)


def test_scaled_sizes_are_cut_off_in_float32() -> None:
    assert scaled_size((480, 640), (512, 512)) == ((384, 512), 1.25)
    # 512 / 642 in float32 is a little less, and 642 times it is below 512.
    assert scaled_size((642, 640), (512, 512)) == ((511, 510), np.float32(1) / (np.float32(512) / np.float32(642)))
    assert scaled_size((640, 642), (512, 512))[0] == (510, 511)
    assert scaled_size((1, 10000), (512, 512))[0] == (0, 512)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (40, 10000), (10000, 40), (2, 3)])
def test_extreme_shapes(height: int, width: int) -> None:
    image, scale = preprocess(saved(scene(height, width), "JPEG"), "d0")
    assert (image.shape, image.dtype) == ((3, 512, 512), torch.float32)
    assert scale == pytest.approx(max(height, width) / 512, rel=1e-6)
    covered = (image != 0).any(0)
    assert covered.any(1).sum() == int(height / scale)
    assert covered.any(0).sum() == int(width / scale)


def test_too_narrow_an_image_is_refused_as_tensorflow_refuses_it() -> None:
    with pytest.raises(ImageError, match="x: 1 x 10000 pixels would be resized to 0 x 512; crop it"):
        Preprocessor(D0)(saved(scene(10000, 1), "PNG"), name="x")


@pytest.mark.parametrize(
    ("config", "white", "padding"),
    [(D0, (255 - np.float32(D0.mean)) / np.float32(D0.std), 0.0), (LITE, [1.0] * 3, 0.0), (ADVPROP, [1.0] * 3, -1.0)],
    ids=["imagenet", "lite", "advprop"],
)
def test_normalisation_and_padding(config: Config, white: list[float], padding: float) -> None:
    image, scale = Preprocessor(config, (64, 96))(saved(Image.new("RGB", (32, 32), "white"), "PNG"))
    assert scale == 0.5
    assert np.array_equal(image[:, :64, :64], np.broadcast_to(np.float32(white)[:, None, None], (3, 64, 64)))
    assert np.array_equal(image[:, :, 64:], np.full((3, 64, 32), padding, np.float32))


def test_steps_are_replaced_from_outside() -> None:
    encoded = saved(scene(300, 400), "JPEG", quality=90)
    preprocessor = Preprocessor(D0, (96, 128))
    official, _ = preprocessor(encoded)
    pillow, _ = dataclasses.replace(preprocessor, decode=decode_with_pillow)(encoded)
    smooth, _ = dataclasses.replace(preprocessor, resize=resize_antialiased)(encoded)
    # Nine levels of 57 at most; averaging four pixels' noise of 8 levels changes more.
    assert 0 < np.abs(pillow - official).mean() < 0.02
    assert np.abs(smooth - official).mean() > 0.03


def test_public_function_takes_bytes_and_paths(tmp_path: Path) -> None:
    encoded = saved(scene(30, 40), "JPEG")
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded)
    image, scale = effconv.preprocess(encoded, model="d1")
    assert (image.shape, image.is_contiguous(), type(scale), scale) == ((3, 640, 640), True, float, 1 / 16)
    for source in (path, str(path)):
        again, _ = effconv.preprocess(source, "d1")
        assert torch.equal(image, again)
    assert effconv.preprocess(path, ADVPROP, size=(64, 128))[0].shape == (3, 64, 128)
    with pytest.raises(ImageError, match=r"absent\.jpg: not a readable image \(No such file"):
        effconv.preprocess(tmp_path / "absent.jpg", "d1")
    path.write_bytes(encoded[:-100])
    with pytest.raises(ImageError, match=r"photo\.jpg: not a readable image \(JPEG: Premature end"):
        effconv.preprocess(path, "d1")
    with pytest.raises(ConfigError):
        effconv.preprocess(encoded, "d99")
