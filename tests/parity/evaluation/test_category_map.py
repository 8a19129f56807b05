"""Which of a model's categories is which of a dataset's: COCO's own, a map's, or an error that names the stranger."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effconv.effdet_torch.categories import COCO_CATEGORIES, category_name
from effconv.effdet_torch.config import get_config
from effconv.parity.datasets.dataset import Dataset, DatasetError
from effconv.parity.evaluation.category_map import CategoryWarning, choose_categories
from effconv.parity.evaluation.coco import rows_of
from effconv.parity.evaluation.finished import Finished
from tensors import config_of

D0 = get_config("d0")
TINY = config_of(Path(__file__).parents[2] / "golden" / "tiny-lite")  # seven classes


def dataset(categories: dict[int, str]) -> Dataset:
    return Dataset(Path("instances_val2017.json"), (), categories, (), "")


def test_cocos_categories_need_no_map() -> None:
    assert choose_categories(D0, dataset(COCO_CATEGORIES), None) == {}
    assert choose_categories(D0, dataset({1: "person", 90: "toothbrush"}), None) == {}  # a part of them
    assert choose_categories(TINY, dataset({1: "disc", 7: "ring"}), None) == {}


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ({1: "aeroplane"}, "category 1 is 'aeroplane', in COCO 'person'; efficientdet-d0 detects COCO's categories"),
        ({12: "street sign"}, "category 12 is 'street sign', in COCO None"),
        (
            {1: "person", 91: "hair brush"},
            r"category 91 \(hair brush\) is none that efficientdet-d0 detects",
        ),
        ({0: "human"}, "category 0"),
    ],
)
def test_other_categories_are_named(categories: dict[int, str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        choose_categories(D0, dataset(categories), None)
    with pytest.raises(DatasetError, match=r"category 8 \(x\) is none that tiny-lite detects, ids 1 to 7"):
        choose_categories(TINY, dataset({8: "x"}), None)


def test_a_map_says_which_is_which(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text('{"1": 15, "3": 7}')
    found = choose_categories(D0, dataset({15: "person", 7: "car"}), path)
    assert found == {1: 15, 3: 7}
    detections = np.array([[0, 0, 1, 1, 0.5, 3], [0, 0, 1, 1, 0.5, 1], [0, 0, 1, 1, 0.5, 2]], np.float32)
    assert rows_of([Finished(9, detections)], found)[:, 6].tolist() == [7, 15, 2]


@pytest.mark.parametrize(
    "given", [[], 3, {"a": 1}, {"0": 15}, {"91": 15}, {"1": 16}, {"1": "15"}, {"1": None}, {"1": [15]}, {"1": True}]
)
def test_a_map_at_fault_is_refused(given: Any, tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text(json.dumps(given))
    with pytest.raises(DatasetError, match=r"map\.json: "):
        choose_categories(D0, dataset({15: "person", 1: "dog"}), path)


def test_names() -> None:
    coco, seven = get_config("d0"), dataclasses.replace(get_config("d0"), num_classes=7)
    names = [category_name(1, coco), category_name(12, coco), category_name(1, seven)]
    assert names == ["person", "category 12", "category 1"]
    named = dataclasses.replace(seven, class_names=("cat", "", "bird", "a", "b", "c", "d"))
    assert [category_name(number, named) for number in (1, 2, 3, 9)] == ["cat", "category 2", "bird", "category 9"]


@pytest.mark.shared
def test_names_are_cocos(shared: Path) -> None:
    path = shared / "coco" / "val2017_66" / "annotations" / "instances_val2017.json"
    assert {each["id"]: each["name"] for each in json.loads(path.read_text())["categories"]} == COCO_CATEGORIES


NAMED = dataclasses.replace(TINY, class_names=("cat", "dog", "bird", "", "", "", ""))


def test_names_say_which_category_is_which() -> None:
    with pytest.warns(CategoryWarning, match=r"matched by name: 1 cat \(id 0\), 3 bird \(id 4\)$"):
        found = choose_categories(NAMED, dataset({0: "cat", 4: "bird"}), None)
    # The model's others get ids that the dataset does not have: 4 is its bird and not the model's fourth.
    assert (found[1], found[3], sorted(set(found.values()) & {0, 4})) == (0, 4, [0, 4])
    assert len(set(found.values())) == 7
    assert choose_categories(NAMED, dataset({1: "cat", 2: "dog"}), None) == {}
    with pytest.warns(CategoryWarning, match=r"17 cat \(id 15\)"):
        assert choose_categories(D0, dataset({15: "cat"}), None)[17] == 15


def test_other_names_than_the_models_are_refused_with_both_lists(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"tiny-lite detects cat \(id 1\), .*, the dataset has cow \(id 1\); give"):
        choose_categories(NAMED, dataset({1: "cow"}), None)
    (tmp_path / "map.json").write_text('{"2": 1}')
    assert choose_categories(NAMED, dataset({1: "cow"}), tmp_path / "map.json") == {2: 1}
