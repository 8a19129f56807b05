"""What may be read off a file of detections, and what not: every limit beside the wrong finding that it refuses."""

from pathlib import Path

import numpy as np
import pytest
from detection_files import changed, clipped, corners, detections, write_truths

from effconv.parity.ablation.file_evidence import CHANCE, MOST, is_decided, is_lacking, overlaps
from effconv.parity.ablation.file_properties import HAIR, decimals
from effconv.parity.ablation.versus import FilePair
from effconv.parity.ablation.versus_waterfall import stages
from effconv.parity.datasets.dataset import Dataset, Image
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.evaluation.coco import Rows


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_dataset(write_truths(tmp_path_factory.mktemp("dataset")))


@pytest.fixture(scope="module")
def folder(dataset: Dataset) -> Path:
    return dataset.path.parent.parent


def found(dataset: Dataset, mine: Rows, ours: Rows) -> set[str]:
    """The names of what `mine` is found to have and `ours` not."""
    steps = stages(FilePair(dataset, dataset.images, ("mine", "ours"), (mine, ours)))
    return {step.name for step in steps} - {"detections"}


def test_what_chance_makes_is_no_property() -> None:
    """Two halves of one list: whose the lowest scores are is as coins fall."""
    random = np.random.default_rng(0)
    taken = 0
    for _ in range(2000):
        one, other = random.random((2, 50))
        taken += is_lacking(int((other < one.min()).sum()), 50, 50)
    assert taken <= 2000 * 3 * CHANCE
    assert is_lacking(10, 50, 50)
    assert not is_lacking(9, 50, 50)
    assert not is_lacking(10, 50, 50, asked=2)
    assert not is_lacking(50, 50, 0)


def test_votes_that_are_few_or_divided_decide_nothing() -> None:
    assert is_decided(10, 0)
    assert not is_decided(9, 0)
    assert is_decided(round(1000 * MOST), 1000 - round(1000 * MOST))
    assert not is_decided(700, 300)  # far from tossed coins, and still no single meaning


def test_boxes_half_a_pixel_beyond_their_image_are_not_clipped(dataset: Dataset, folder: Path) -> None:
    ours = detections(folder, 0)
    mine = clipped(ours)
    mine[:, 1] -= 0.5
    assert found(dataset, mine, ours) == set()
    mine[:, 1] += 0.5 - HAIR / 2
    assert found(dataset, mine, ours) == {"clip"}


@pytest.mark.parametrize(("share", "expected"), [(1.0, {"corner-boxes"}), (0.5, set()), (0.0, set())])
def test_a_file_of_two_formats_is_nobodys_mistake(dataset: Dataset, share: float, expected: set[str]) -> None:
    """Near the origin, where sizes may be read as corners too, and by accident agree with another detector's boxes."""
    random = np.random.default_rng(0)
    rows = []
    for image in dataset.images:
        for size in (40, 80, 160):
            rows.append([image.id, *random.uniform(2, 20, 2), *random.uniform(size, 1.2 * size, 2), 0.5, 1])
    ours = np.array(rows)
    mine = ours.copy()
    mine[:, 3:5] *= random.uniform(0.9, 1.1, (len(ours), 2))
    mine = np.where(random.random(len(ours))[:, None] < share, corners(mine), mine)
    assert found(dataset, mine, ours) == expected


def test_lists_that_are_full_end_at_no_threshold(dataset: Dataset, folder: Path) -> None:
    """A detector that is surer of everything; its lists are as long as the other's."""
    mine = changed(5, lambda scores: 0.2 + 0.8 * scores)(detections(folder, 1))
    assert mine[:, 5].min() > np.quantile(detections(folder, 0)[:, 5], 0.1)
    assert found(dataset, mine, detections(folder, 0)) == set()


@pytest.mark.parametrize(("unsure", "expected"), [(12, {"missing-images"}), (75, set())])
def test_images_on_which_nothing_is_sure_are_not_missing(unsure: int, expected: set[str]) -> None:
    """One detection an image. A less sure detector leaves out 12 that are sure, and many more that are not."""
    images = tuple(Image(number, Path(f"{number}.jpg"), 50, 50) for number in range(200))
    ours = np.array([(number, 5, 5, 20, 20, 0.1 + number / 300, 1) for number in range(200)])
    gone = [*range(1, 1 + unsure), *range(150, 162)]  # the lowest score of all stays
    mine = ours[~np.isin(ours[:, 0], gone)]
    assert found(Dataset(Path("made"), images, {1: "thing"}, (), ""), mine, ours) == expected


def test_decimals_are_those_of_float32_too() -> None:
    values = np.array([0.1, 0.25, 123.45])
    assert decimals(values) == decimals(values.astype(np.float32).astype(np.float64)) == 2
    assert decimals(np.array([1.0, 2.0])) == 0
    assert decimals(np.array([1 / 3])) == 6


def test_overlaps_by_hand() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [5, 0, 10, 10], [0, 0, 0, 5], [3, 3, -1, 2]])
    assert overlaps(boxes[:1], boxes).tolist() == [[1.0, pytest.approx(1 / 3), 0.0, 0.0]]
