"""Datasets as people have them: each layout is recognised, read as it was written, and its faults are named."""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from dataset_layouts import DIGITS, Writer, drawn, write_roboflow, write_voc, write_yolo

from effconv.errors import EffconvError
from effconv.parity.datasets.dataset import Dataset, DatasetError
from effconv.parity.datasets.examination import examine
from effconv.parity.datasets.layout import EVALUATED_ON, TRAINED_ON
from effconv.parity.datasets.layouts import CocoFile, find_layout, read_dataset

__all__ = ["drawn"]


class Found(NamedTuple):
    """A box for comparison: image's name, category's name, box, crowd."""

    image: str
    category: str
    box: list[float]
    crowd: int


def found(dataset: Dataset) -> list[Found]:
    names = {image.id: image.path.name for image in dataset.images}
    return [
        Found(names[each["image_id"]], dataset.categories[each["category_id"]], each["bbox"], each["iscrowd"])
        for each in dataset.annotations
    ]


@pytest.mark.parametrize(
    ("write", "split", "title"), [(write_roboflow, "valid", "Roboflow COCO"), (write_voc, "val", "Pascal VOC")]
)
def test_a_layout_is_read_as_it_was_written(
    write: Writer, split: str, title: str, drawn: Dataset, tmp_path: Path
) -> None:
    dataset = read_dataset(write(drawn, tmp_path, split))
    assert find_layout(tmp_path)[:3] == (title, tmp_path, [split])
    assert dataset.split == split
    assert found(dataset) == found(drawn)
    assert [image.path.is_file() for image in dataset.images] == [True] * 6
    assert [image[2:] for image in dataset.images] == [image[2:] for image in drawn.images]
    assert set(dataset.categories.values()) <= set(drawn.categories.values())
    assert [image.id for image in dataset.images] == [1, 2, 3, 4, 5, 6]
    assert not examine(dataset, dataset.images).faults


def test_yolo_is_read_to_its_own_digits(drawn: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    dataset = read_dataset(write_yolo(drawn, tmp_path, "val"))
    mine, theirs = found(dataset), [each for each in found(drawn) if not each.crowd]
    assert [each[:2] for each in mine] == [each[:2] for each in theirs]
    # A centre and a side, each rounded: one and a half half-units of the last digit, of the longer side.
    limit = 1.5 * 0.5 * 10.0**-DIGITS * 96
    for one, other in zip(mine, theirs, strict=True):
        assert one.box == pytest.approx(other.box, abs=limit, rel=0)
    assert dataset.categories == dict(enumerate(drawn.categories.values()))
    assert (len(dataset.images), dataset.split) == (6, "val")
    assert not examine(dataset, dataset.images).faults
    assert read_dataset(tmp_path / "data.yaml").sha256 == dataset.sha256
    labels = next((tmp_path / "labels" / "val").iterdir())
    labels.write_text(labels.read_text() + "\n0 0.1 0.2 0.3 0.2 0.2 0.6\n")  # an empty line, and an outline
    more = read_dataset(tmp_path)
    outline = [each.box for each in found(more) if each not in mine]
    assert outline == [pytest.approx([0.1 * 96, 0.2 * 64, 0.2 * 96, 0.4 * 64])]
    assert more.sha256 != dataset.sha256


def test_yolo_as_roboflow_and_others_write_it(drawn: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    expected = found(read_dataset(write_yolo(drawn, tmp_path / "plain", "val")))
    folder, names = tmp_path / "plain", list(drawn.categories.values())
    yaml = folder / "data.yaml"
    yaml.write_text(f"val: ../images/val\nnc: {len(names)}\nnames: {json.dumps(names)}\n")
    assert found(read_dataset(folder)) == expected
    yaml.write_text(f"path: /of/another/machine\nval: [images/val]\nnames: {json.dumps(names)}\n")
    assert found(read_dataset(folder)) == expected
    listed = sorted((folder / "images" / "val").iterdir(), reverse=True)
    (folder / "list.txt").write_text("".join(f"./images/val/{each.name}\n" for each in listed))
    yaml.write_text(f"val: list.txt\nnc: {len(names)}\n")
    dataset = read_dataset(folder)
    assert [image.path.name for image in dataset.images] == [each.name for each in listed]
    assert dataset.categories[3] == "class 3"


def test_splits_have_their_own_names(drawn: Dataset, tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        write_roboflow(drawn, tmp_path, split)
    layout = find_layout(tmp_path)
    assert (layout.choose(None, EVALUATED_ON), layout.choose(None, TRAINED_ON)) == ("valid", "train")
    assert read_dataset(tmp_path, "test").split == "test"
    with pytest.raises(DatasetError, match=r"expected val/_annotations\.coco\.json .*found test, train, valid; name"):
        read_dataset(tmp_path, "val")


def test_a_coco_file_anywhere(drawn: Dataset, tmp_path: Path) -> None:
    write_roboflow(drawn, tmp_path, "train")
    (tmp_path / "mine.json").write_bytes((tmp_path / "train" / "_annotations.coco.json").read_bytes())
    dataset = read_dataset(CocoFile(tmp_path / "mine.json", tmp_path / "train"))
    assert (found(dataset), dataset.split) == (found(drawn), "mine")
    with pytest.raises(DatasetError, match="nowhere: expected a folder of images, found none"):
        read_dataset(CocoFile(tmp_path / "mine.json", tmp_path / "nowhere"))
    with pytest.raises(DatasetError, match=r"absent\.json: cannot be read"):
        read_dataset(CocoFile(tmp_path / "absent.json", tmp_path / "train"))


def test_what_is_there_is_said_where_no_layout_fits(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="found an empty folder"):
        read_dataset(tmp_path)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DatasetError, match=r"or data\.yaml \(YOLO\), found notes\.txt, pictures/; give"):
        read_dataset(tmp_path)
    with pytest.raises(DatasetError, match="found a file"):
        read_dataset(tmp_path / "notes.txt")


YOLO_FAULTS = [
    ("0 .5 .5 .2", r"line 1: expected class cx cy width height, or an outline, found 4 numbers"),
    ("0 .5 .5 .2 .2\n9 .5 .5 .2 .2", r"line 2: expected a class of 0 to 7, found 9"),
    ("0.5 .5 .5 .2 .2", r"line 1: expected a class of 0 to 7, found 0\.5"),
    ("star .5 .5 .2 .2", r"line 1: expected numbers, class cx cy width height, found 'star \.5"),
    ("0 48 30 8 6", r"line 1: expected shares of the image, 0 to 1, found 48"),
    ("0 nan .5 .2 .2", "line 1: expected shares of the image, 0 to 1, found nan"),
    ("0 .5 .5 -.2 .2", r"line 1: expected shares of the image, 0 to 1, found -\.2"),
    ("0 .5 .5 .2 .2 .9", "line 1: expected class .* found 6 numbers"),
]


@pytest.mark.parametrize(("rows", "message"), YOLO_FAULTS)
def test_a_row_at_fault_is_named(rows: str, message: str, drawn: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    write_yolo(drawn, tmp_path, "val")
    (tmp_path / "labels" / "val" / "000001.txt").write_text(rows)
    with pytest.raises(DatasetError, match=rf"labels/val/000001\.txt: {message}") as caught:
        read_dataset(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("val: images/val\nnames: 3", "expected names: a list, or number: name, found 3"),
        ("val: images/val\nnames: [a, b]\nnc: 3", "nc: expected 2, as many as names, found 3"),
        ("val: images/val\nnames: {a: 1}", "names: expected whole numbers from 0, found 'a'"),
        ("val: images/val\nnames: [[a], b]", "names: expected a name for 0, found a list"),
        ("val: nowhere\nnames: [a]", r"val: expected a folder or \.txt list of images, found no .*nowhere"),
        ("val: labels\nnames: [a]", "val: expected images, found none in labels"),
        ("val: 3\nnames: [a]", "val: expected a folder or a list of images, found 3"),
        ("val: [\nnames", "not readable YAML"),
        ("- a", "expected train: and val: with folders of images"),
        ("val: !!python/object/apply:os.getcwd []", "not readable YAML"),
        ("val: list.txt\nnames: [a]", r"list\.txt: line 2: expected the path of an image, found 'b\.jpg'"),
        ("val: bare\nnames: [a]", "val: none of 1 images has a file of boxes; expected .*bare/a.txt"),
    ],
)
def test_a_yaml_at_fault_is_named(yaml: str, message: str, drawn: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    write_yolo(drawn, tmp_path, "val")
    (tmp_path / "list.txt").write_text("images/val/000001.jpg\nb.jpg\n")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "a.jpg").write_bytes((tmp_path / "images" / "val" / "000001.jpg").read_bytes())
    (tmp_path / "data.yaml").write_text(yaml)
    with pytest.raises(DatasetError, match=message) as caught:
        read_dataset(tmp_path)
    assert "\n" not in str(caught.value)


def test_names_that_grow_are_not_written_out(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    grown = "".join(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12))
    (tmp_path / "data.yaml").write_text(f"a0: &a0 [x]\n{grown}val: images\nnames: *a11\n")
    with pytest.raises(DatasetError, match="names: expected a name for 0, found a list"):
        read_dataset(tmp_path)


def test_yolo_without_its_library_and_with_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text("")
    (tmp_path / "b.yml").write_text("")
    with pytest.raises(DatasetError, match=r"expected one \.yaml file, or data\.yaml, found a\.yaml, b\.yml"):
        read_dataset(tmp_path)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(EffconvError, match=r"a\.yaml: reading it needs PyYAML, .*; pip install pyyaml$"):
        read_dataset(tmp_path / "a.yaml")


def test_an_image_whose_size_cannot_be_read_is_named(drawn: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    write_yolo(drawn, tmp_path, "val")
    (tmp_path / "images" / "val" / "000003.jpg").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"000003\.jpg: its size, of which its boxes are shares, cannot be read"):
        read_dataset(tmp_path)


BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>8</xmax><ymax>8</ymax></bndbox>"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation>", "not readable XML"),
        ("<other/>", "expected <annotation>, found <other>"),
        (f"<annotation><object>{BOX}</object></annotation>", "object 1: expected <name>, found none"),
        ("<annotation><object><name>disc</name></object></annotation>", r"object 1 \(disc\): expected <bndbox/xmin>"),
        (
            f"<annotation><object><name>disc</name>{BOX.replace('>8</xmax', '>0</xmax')}</object></annotation>",
            r"object 1 \(disc\): expected xmin <= xmax and ymin <= ymax, found 1 to 0 and 1 to 8",
        ),
        (
            f"<annotation><object><name>disc</name>{BOX.replace('>8</ymax', '>eight</ymax')}</object></annotation>",
            r"object 1 \(disc\): expected a number of pixels as bndbox/ymax, found 'eight'",
        ),
        (
            f"<annotation><object><name>a</name><difficult>2</difficult>{BOX}</object></annotation>",
            "object 1 .*expected difficult 0 or 1, found '2'",
        ),
        (
            '<!DOCTYPE x [<!ENTITY a "b">]><annotation/>',
            r"not readable XML \(it declares a document type",
        ),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><annotation/>', r"not readable XML \(it declares a document type"),
    ],
)
def test_an_annotation_at_fault_is_named(content: str, message: str, drawn: Dataset, tmp_path: Path) -> None:
    write_voc(drawn, tmp_path, "val")
    (tmp_path / "Annotations" / "000001.xml").write_text(content)
    with pytest.raises(DatasetError, match=rf"Annotations/000001\.xml: {message}") as caught:
        read_dataset(tmp_path)
    assert "\n" not in str(caught.value)


def test_voc_without_a_size_takes_the_images(drawn: Dataset, tmp_path: Path) -> None:
    write_voc(drawn, tmp_path, "val")
    for file in (tmp_path / "Annotations").iterdir():
        file.write_text(file.read_text().replace("<width>96</width>", "<width>0</width>"))
    assert {image[2:] for image in read_dataset(tmp_path).images} == {(64, 96)}
    (tmp_path / "JPEGImages" / "000001.jpg").unlink()
    with pytest.raises(DatasetError, match=r"000001\.xml: expected its image's height and width .*found '64' and '0'"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("000001\n../../x", r"line 2: '../../x' has no Annotations/"),
        ("000001\n\n000001", "line 3: 000001 is listed twice"),
    ],
)
def test_a_list_at_fault_is_named(lines: str, message: str, drawn: Dataset, tmp_path: Path) -> None:
    write_voc(drawn, tmp_path, "val")
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text(lines)
    with pytest.raises(DatasetError, match=rf"Main/val\.txt: {message}"):
        read_dataset(tmp_path)
