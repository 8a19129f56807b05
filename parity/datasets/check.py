"""`effconv check`: everything that can be told of a dataset before anybody trains on it or measures with it."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...effdet_torch.config import Config, config_from_dict, config_to_dict
from ..plain import Plain
from .anchor_proposal import Proposal, propose_anchors
from .box_findings import box_findings
from .boxes import Boxes
from .category_findings import category_findings
from .coverage import Coverage, coverage
from .dataset import Dataset, DatasetError
from .findings import Finding
from .layouts import CocoFile, find_layout, read_dataset
from .picture_files import picture_findings, read_pictures
from .resized import resized_sides
from .statistics import Statistics, statistics


@dataclass(frozen=True, kw_only=True)
class DatasetCheck(Plain):
    """What was found, serious findings first, and what the dataset has."""

    dataset: str
    split: str
    annotations_sha256: str
    model: str
    image_size: tuple[int, ...]  # the model's input: height, width
    findings: tuple[Finding, ...]
    statistics: Statistics
    coverage: Coverage | None  # None where there is no box to learn from
    proposal: Proposal | None

    @property
    def ok(self) -> bool:
        """Whether nothing serious was found."""
        return not any(each.serious for each in self.findings)


def check_dataset(
    folder: Path | CocoFile, split: str | None, config: Config, report: Callable[[int, int], None]
) -> tuple[DatasetCheck, Dataset]:
    """Check a split of the dataset in `folder` against a model. Every picture is read once; `report` gets how many are.

    Raises DatasetError for a dataset that cannot be read at all.
    """
    dataset = read_dataset(folder, split)
    files = read_pictures(dataset, report)
    sizes = {image.id: file.size for image, file in zip(dataset.images, files, strict=True) if file.size}
    boxes = Boxes.of(dataset, sizes)
    sides = resized_sides(boxes, config)
    findings = [
        *box_findings(dataset, boxes, sides),
        *picture_findings(dataset, files, other_splits(folder, dataset)),
        *category_findings(dataset, boxes),
    ]
    checked = DatasetCheck(
        dataset=str(folder),
        split=dataset.split,
        annotations_sha256=dataset.sha256,
        model=config.name,
        image_size=config.image_size,
        findings=tuple(sorted(findings, key=lambda each: not each.serious)),
        statistics=statistics(dataset, boxes, sides),
        coverage=coverage(dataset, boxes, config),
        proposal=propose_anchors(boxes, config),
    )
    return checked, dataset


def other_splits(place: Path | CocoFile, dataset: Dataset) -> Sequence[Dataset]:
    """The other splits beside it that can be read; a check of theirs says what is wrong with the rest."""
    layout = find_layout(place)
    others = []
    for split in layout.splits:
        if split != dataset.split:
            try:
                others.append(layout.read(split))
            except DatasetError:
                continue
    return others


def fitting_config(check: DatasetCheck, dataset: Dataset, config: Config) -> Config:
    """The model's configuration for this dataset: its categories in the order of their ids, as training numbers them,
    and the proposed anchors where they gain anything.

    Raises ConfigError where no model can have such categories.
    """
    names = tuple(name for _, name in sorted(dataset.categories.items()))
    anchors = check.proposal.config(config) if check.proposal and check.proposal.gains else config
    fitting = dataclasses.replace(anchors, num_classes=len(names), class_names=names)
    return config_from_dict(config_to_dict(fitting), source=f"{config.name} for {dataset.path}")
