"""Metrics of resampled images: equal to pycocotools on the resampled dataset, and cases worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from effconv.commands.ablate import ablate_command
from effconv.parity.ablation.bootstrap import draw_images, metrics_of
from effconv.parity.ablation.matches import match_detections
from effconv.parity.ablation.study import Study
from effconv.parity.benchmarks.synthetic_coco import synthetic, write_annotations
from effconv.parity.datasets.dataset import Dataset
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.evaluation.coco import METRICS, evaluate

IMAGES = 40


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, np.ndarray]:
    """Images with crowds and boxes of all sizes; no two scores of an image and category are equal."""
    folder = tmp_path_factory.mktemp("made_up")
    data, detections = synthetic(IMAGES, 100)
    write_annotations(data, folder)
    detections[:, 5] += np.random.default_rng(0).random(len(detections)) * 1e-6
    return read_dataset(folder), detections


def copied(dataset: Dataset, detections: np.ndarray, times: np.ndarray) -> tuple[Dataset, np.ndarray]:
    """The dataset in which each image, by id, is there so many times, and its detections."""
    images, annotations, tables = [], [], [np.zeros((0, 7))]
    for image, often in zip(sorted(dataset.images, key=lambda each: each.id), times, strict=True):
        for _ in range(often):
            images.append(image._replace(id=len(images) + 1))
            for each in dataset.annotations:
                if each["image_id"] == image.id:
                    annotations.append({**each, "image_id": len(images), "id": len(annotations) + 1})
            mine = detections[detections[:, 0] == image.id].copy()
            mine[:, 0] = len(images)
            tables.append(mine)
    other = Dataset(dataset.path, tuple(images), dataset.categories, tuple(annotations), dataset.sha256)
    return other, np.concatenate(tables)


def official(dataset: Dataset, detections: np.ndarray) -> np.ndarray:
    return np.array(list(evaluate(dataset, detections, engine="pycocotools").metrics.values()))


def test_without_resampling_the_metrics_are_pycocotools(made_up: tuple[Dataset, np.ndarray]) -> None:
    dataset, detections = made_up
    found = metrics_of(match_detections(dataset, detections))
    assert found.shape == (1, len(METRICS))
    np.testing.assert_allclose(found[0], official(dataset, detections), rtol=0, atol=1e-14)
    assert found[0].min() > 0  # every metric is measured on something


def test_resampled_metrics_are_those_of_the_resampled_dataset(made_up: tuple[Dataset, np.ndarray]) -> None:
    times = draw_images(IMAGES, 3, 6)
    found = metrics_of(match_detections(*made_up), times)
    for row, often in zip(found, times, strict=True):
        np.testing.assert_allclose(row, official(*copied(*made_up, often)), rtol=0, atol=1e-14)
    assert len(np.unique(found[:, 0])) == 6


def test_images_that_are_never_drawn_count_for_nothing(made_up: tuple[Dataset, np.ndarray]) -> None:
    dataset, detections = made_up
    times = np.zeros((1, IMAGES), np.int32)
    times[0, [4, 9]] = 1, 3
    found = metrics_of(match_detections(dataset, detections), times)
    np.testing.assert_allclose(found[0], official(*copied(dataset, detections, times[0])), rtol=0, atol=1e-14)
    assert -1 in metrics_of(match_detections(dataset, detections), np.zeros((1, IMAGES), np.int32))


@pytest.mark.parametrize("count", [0, 1, 7])
def test_few_detections(count: int, made_up: tuple[Dataset, np.ndarray]) -> None:
    dataset, detections = made_up
    some = detections[:count]
    np.testing.assert_allclose(metrics_of(match_detections(dataset, some))[0], official(dataset, some), atol=1e-14)


def test_a_subset_of_images_and_unknown_categories(made_up: tuple[Dataset, np.ndarray]) -> None:
    dataset, detections = made_up
    images = dataset.images[5:25]
    chosen = {image.id for image in images}
    some = detections[[row[0] in chosen for row in detections]].copy()
    some[::5, 6] = 4711  # of a category the dataset lacks
    expected = list(evaluate(dataset, some, images, "pycocotools").metrics.values())
    np.testing.assert_allclose(metrics_of(match_detections(dataset, some, images))[0], expected, atol=1e-14)


def test_draws() -> None:
    times = draw_images(50, 1, 300)
    assert times.shape == (300, 50)
    assert set(times.sum(1)) == {50}
    assert np.array_equal(times, draw_images(50, 1, 300))
    assert not np.array_equal(times, draw_images(50, 2, 300))
    # An image is left out with a probability of (1 - 1/50) ** 50.
    assert (times == 0).mean() == pytest.approx(0.98**50, abs=0.01)


def test_intervals_cover_what_they_should(made_up: tuple[Dataset, np.ndarray]) -> None:
    """The spread of a mean of differences over images is known; the interval is about two of its deviations wide."""
    dataset, detections = made_up
    matches = match_detections(dataset, detections)
    times = draw_images(IMAGES, 0, 2000)
    recall = metrics_of(matches, times)[:, METRICS.index("AR100")]
    low, high = np.percentile(recall, [2.5, 97.5])
    assert (high - low) / (2 * 1.96 * recall.std()) == pytest.approx(1, abs=0.1)


def test_equal_scores_of_one_image_stay_together(tmp_path: Path) -> None:
    """The one case in which copies of an image would come in another order: said in `bootstrap`'s description."""
    data, detections = synthetic(4, 20)
    write_annotations(data, tmp_path)
    detections[:, 5] = 0.5
    dataset = read_dataset(tmp_path)
    np.testing.assert_allclose(
        metrics_of(match_detections(dataset, detections))[0], official(dataset, detections), atol=1e-14
    )


def test_resampling_leaves_pytorchs_threads_alone(made_up: tuple[Dataset, np.ndarray]) -> None:
    threads = torch.get_num_threads()
    metrics_of(match_detections(*made_up), draw_images(IMAGES, 0, 4))
    assert torch.get_num_threads() == threads


def test_the_intervals_of_the_library_are_as_fine_as_the_command_s() -> None:
    (asked,) = (each.default for each in ablate_command.params if each.name == "resamples")
    assert draw_images(4, 0).shape == (asked, 4)
    assert Study(coco=Path(), model=None, checkpoint=Path()).resamples == asked
