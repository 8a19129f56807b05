"""`effconv parity --end-to-end` as one job: find model and images, compare, record."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ...effdet_torch.config import Config
from ...effdet_torch.preprocessing.decode import read_encoded
from ..datasets.dataset import Dataset
from ..datasets.layouts import read_dataset
from ..datasets.renumbering import known_names
from ..evaluation.pipeline import Settings, build
from ..provenance import provenance
from ..reference.network import import_tensorflow
from ..traces.images import drawn
from ..traces.official import official_variables
from .end_to_end import BothSides, ImageResult, compare_images
from .end_to_end_record import (
    EndToEnd,
    EndToEndRecord,
    EndToEndRow,
    ImageRow,
    ListCounts,
    StageCount,
    StageRow,
    counted_images,
)
from .end_to_end_stages import STAGES
from .records import Reference
from .subject import Choice, candidate_record, choose_subject, load_candidate

Images = list[tuple[str, Callable[[], bytes]]]  # names, and how the bytes are had

DRAWN = ((90, 120), (300, 200))  # (H, W) of the pictures compared where none is named


@dataclass(frozen=True, kw_only=True)
class EndToEndComparison:
    """A comparison's record, and what a page with its pictures needs."""

    record: EndToEndRecord
    config: Config
    images: Images  # that were compared
    results: Sequence[ImageResult]  # one per image


def compare_end_to_end(
    choice: Choice,
    fetch: Callable[[str], Path],
    command: str,
    coco: Path | None = None,
    limit: int | None = None,
    settings: Settings | None = None,
    report: Callable[[int, int], None] | None = None,
) -> EndToEndComparison:
    """Compare the images of a dataset folder, of one file, or of drawn ones.

    `report(done, total)` counts images. Raises EffconvError for bad input and without TensorFlow.
    """
    subject = choose_subject(choice, fetch)
    dataset = read_dataset(coco) if coco else None
    images = _images(choice.image, dataset, coco)[:limit]
    variables, source = official_variables(subject.checkpoint, subject.config, subject.weights, verify=subject.verify)
    pipeline = build(subject.config, settings or Settings(size=choice.size))
    model = load_candidate(choice, subject)
    sides = BothSides(pipeline.config, variables, model)
    total = len(images)
    results = compare_images(
        ((name, read()) for name, read in images), sides, pipeline, lambda done: report(done, total) if report else None
    )
    label = f"the official pipeline in TensorFlow {import_tensorflow().__version__}"
    row = EndToEndRow(
        model=subject.config.name,
        candidate=candidate_record(choice, subject),
        reference=Reference(label=label, more=source),
        found=end_to_end(results),
    )
    record = EndToEndRecord(row=row, provenance={"command": command, **provenance()})
    return EndToEndComparison(record=record, config=_named(subject.config, dataset), images=images, results=results)


def _named(config: Config, dataset: Dataset | None) -> Config:
    """With the dataset's names of categories, where the model has none of its own and its numbers are the dataset's."""
    numbers = range(1, config.num_classes + 1)
    if dataset is None or known_names(config) or not set(dataset.categories) <= set(numbers):
        return config
    return replace(config, class_names=tuple(dataset.categories.get(number, "") for number in numbers))


def _images(file: Path | None, dataset: Dataset | None, place: Path | None) -> Images:
    if dataset and place:
        folder = place if place.is_dir() else place.parent
        return [(_name(image.path, folder), partial(read_encoded, image.path)) for image in dataset.images]
    if file:
        return [(file.name, partial(read_encoded, file))]
    return [(f"drawn {seed}", partial(drawn, seed, size)) for seed, size in enumerate(DRAWN)]


def _name(path: Path, folder: Path) -> str:
    """By which an image is told from all others: two folders of a dataset may hold files of the same name."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def end_to_end(results: Sequence[ImageResult]) -> EndToEnd:
    """The verdict, counts per stage, and every image that is not identical throughout."""
    failures = [
        (stage, result)
        for name in STAGES
        for result in results
        for stage in result.stages
        if stage.name == name and not stage.holds
    ]
    kinds = ("identical", "explained", "unexplained")
    lists = ListCounts(**{kind: sum(result.lists == kind for result in results) for kind in kinds})
    matched = sum(len(each.pairing.pairs) for each in results)
    detections = matched + sum(len(each.pairing.only_first) for each in results)
    if not results:
        verdict = "no image was compared"
    elif failures:
        stage, result = failures[0]
        failed = sum(not each.holds for each in results)
        of = f"{failed} of {counted_images(len(results))} {'differs' if failed == 1 else 'differ'}"
        verdict = f"{of}, first {stage.name} of {result.image}: {stage.verdict}"
    elif detections and not matched:
        verdict = f"none of {detections} detections matched one to one"
    else:
        verdict = (
            f"nothing changed on the way: {counted_images(len(results))}, {lists.identical} with identical detections, "
            f"{lists.explained} where rounding decides between equals; {matched} of {detections} detections matched "
            "one to one"
        )
    return EndToEnd(
        ok=bool(results) and not failures and (matched > 0 or not detections),
        verdict=verdict,
        images=len(results),
        lists=lists,
        stages={name: _outcome(name, results) for name in STAGES},
        detections=detections,
        matched=matched,
        in_another_place=sum(one != other for each in results for one, other in each.pairing.pairs),
        largest_score_gap=max((each.pairing.score_gap for each in results), default=0.0),
        largest_box_gap=max((each.pairing.box_gap for each in results), default=0.0),
        not_identical=tuple(
            ImageRow(
                image=each.image,
                lists=each.lists,
                stages=tuple(
                    StageRow(name=stage.name, holds=stage.holds, verdict=stage.verdict) for stage in each.stages
                ),
            )
            for each in results
            if each.lists != "identical" or not each.holds
        ),
    )


def _outcome(name: str, results: Sequence[ImageResult]) -> StageCount:
    """In how many images a stage holds, of those where it was looked at."""
    outcomes = [stage.holds for result in results for stage in result.stages if stage.name == name]
    return StageCount(held=sum(outcomes), of=len(outcomes))
