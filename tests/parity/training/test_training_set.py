"""Examples and batches to train on: what is left out, and that they are the same however they are prepared."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from effconv.effdet_torch.postprocessing.anchors import official_anchors
from effconv.effdet_torch.training.augment import Augmentation
from effconv.effdet_torch.training.targets import BACKGROUND, label_anchors
from effconv.effdet_torch.training.trainer import TrainingError
from effconv.errors import EffconvError, ImageError
from effconv.parity.datasets.dataset import DatasetError
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.training import examples as training_set
from effconv.parity.training.batches import steps_per_epoch, training_batches
from effconv.parity.training.examples import TrainingSet
from small_images import write_pictures
from training_data import TINY

Batch = tuple[torch.Tensor, ...]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, without the one of a single pixel, which no training can shrink."""
    folder = write_pictures(tmp_path_factory.mktemp("pictures"))
    path = folder / "annotations" / "instances_val2017.json"
    data = json.loads(path.read_text())
    tiny = {image["id"] for image in data["images"] if image["height"] == 1}
    data["images"] = [image for image in data["images"] if image["id"] not in tiny]
    data["annotations"] = [each for each in data["annotations"] if each["image_id"] not in tiny]
    path.write_text(json.dumps(data))
    return folder


def examples(folder: Path, augmentation: Augmentation | None = None, seed: int = 0) -> TrainingSet:
    return TrainingSet(read_dataset(folder), TINY, augmentation=augmentation, seed=seed)


def batches(folder: Path, seed: int = 0, **options: object) -> list[Batch]:
    given = {"batch_size": 2, "epochs": range(2), **options}
    found = training_batches(examples(folder, Augmentation(), seed), **given)  # type: ignore[arg-type]
    return [(images, *targets) for images, targets in found]


def same(one: list[Batch], other: list[Batch]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(torch.equal(a, b) for first, second in pairs for a, b in zip(first, second, strict=True))


def test_an_example_is_an_image_and_the_labels_of_its_boxes(folder: Path) -> None:
    found = examples(folder)
    assert len(found) == 8
    dataset = read_dataset(folder)
    image, targets = found[0, 1]
    assert image.shape == (3, *TINY.image_size)
    entry = dataset.images[1]
    boxes = [each["bbox"] for each in dataset.annotations if each["image_id"] == entry.id]
    assert boxes == [[0, 0, 50, 64]]
    # 128 x 100 fits 128 x 160 as it is.
    expected = label_anchors(torch.tensor([[0.0, 0.0, 64.0, 50.0]]), torch.tensor([1]), official_anchors(TINY))
    for ours, theirs in zip(targets, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_crowds_are_left_out(folder: Path) -> None:
    dataset = read_dataset(folder)
    crowds = {each["image_id"] for each in dataset.annotations if each["iscrowd"]}
    place = next(place for place, image in enumerate(dataset.images) if image.id in crowds)
    _, targets = examples(folder)[0, place]
    assert targets.positives == 0
    assert (targets.classes == BACKGROUND).all()


def test_categories_beyond_the_model(folder: Path, tmp_path: Path) -> None:
    data = json.loads((folder / "annotations" / "instances_val2017.json").read_text())
    data["categories"].append({"id": 8, "name": "eighth"})
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(data))
    with pytest.raises(DatasetError, match=r"category 8 \(eighth\), but tiny-swish has 7 classes"):
        examples(tmp_path)


def test_draws_depend_on_seed_epoch_and_image(folder: Path) -> None:
    found = examples(folder, Augmentation())
    image = found[0, 1][0]
    assert torch.equal(image, examples(folder, Augmentation())[0, 1][0])
    assert not torch.equal(image, found[1, 1][0])
    assert not torch.equal(image, examples(folder, Augmentation(), seed=1)[0, 1][0])


def test_images_that_cannot_be_read_or_shrunk(tmp_path: Path) -> None:
    whole = write_pictures(tmp_path)
    (whole / "val2017" / "001.jpg").write_bytes(b"not an image")
    given = examples(whole, Augmentation(jitter_min=0.001, jitter_max=0.001))
    with pytest.raises(ImageError, match=r"001\.jpg"):
        given[0, 1]
    with pytest.raises(
        ImageError, match=r"002\.jpg: 200 x 60 pixels would be resized to 0 x 0; use a larger least scale"
    ):
        given[0, 2]


def test_decoded_images_are_kept_while_they_fit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    decode = training_set.decode

    def counting(encoded: bytes, *, name: str) -> np.ndarray:
        decoded.append(name)
        return decode(encoded, name=name)

    monkeypatch.setattr(training_set, "decode", counting)
    kept = examples(folder)
    assert torch.equal(kept[0, 1][0], kept[1, 1][0])
    assert len(decoded) == 1
    monkeypatch.setattr(training_set, "KEPT_BYTES", 1000)
    large = examples(folder)
    assert torch.equal(large[0, 1][0], large[1, 1][0])
    assert len(decoded) == 3


def test_workers_make_no_difference(folder: Path) -> None:
    assert same(batches(folder), batches(folder, workers=2))


def test_a_worker_that_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingSet, "_pixels", lambda self, place: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(TrainingError, match="a process that prepares images was killed"):
        batches(folder, workers=1)


def test_every_image_once_in_an_epoch_in_another_order_in_the_next(folder: Path) -> None:
    found = [image for images, *_ in batches(folder) for image in images]
    assert len(found) == 16
    orders = []
    for epoch in range(2):
        given = examples(folder, Augmentation())
        every = [given[epoch, place][0] for place in range(8)]
        mine = found[8 * epoch : 8 * epoch + 8]
        order = [next(place for place in range(8) if torch.equal(every[place], image)) for image in mine]
        assert sorted(order) == list(range(8))
        orders.append(order)
    assert orders[0] != orders[1]
    assert not same(batches(folder), batches(folder, seed=1))


def test_an_incomplete_batch_is_left_out(folder: Path) -> None:
    assert len(batches(folder, batch_size=3)) == 4
    assert steps_per_epoch(8, 3) == 2
    with pytest.raises(EffconvError, match="8 images to train on, fewer than a batch of 9"):
        batches(folder, batch_size=9)


def test_going_on_in_the_middle_of_an_epoch(folder: Path) -> None:
    whole = batches(folder)
    assert same(whole[3:], batches(folder, first_step=3))
    assert same(whole[5:], batches(folder, epochs=range(1, 2), first_step=1))


def test_processes_share_each_batch(folder: Path) -> None:
    whole = batches(folder, batch_size=4)
    shares = [batches(folder, batch_size=4, rank=rank, processes=2) for rank in range(2)]
    for batch, first, second in zip(whole, *shares, strict=True):
        images, classes, codes, positives = batch
        assert torch.equal(images, torch.cat([first[0], second[0]]))
        assert torch.equal(classes, torch.cat([first[1], second[1]]))
        assert torch.equal(codes, torch.cat([first[2], second[2]]))
        assert positives == first[3] + second[3]
    with pytest.raises(EffconvError, match="a batch of 4 images cannot be shared out among 3 processes"):
        batches(folder, batch_size=4, processes=3)
