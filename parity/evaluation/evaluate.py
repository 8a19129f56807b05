"""`effconv eval` as one job: find model and dataset, detect, measure, record."""

import dataclasses
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ...convert.fingerprints import identify
from ...convert.sources import open_checkpoint
from ...effdet_torch.engines.engines import DEFAULT_NETWORK_ENGINE
from ...errors import EffconvError, ImageError
from ...loading import CHECKPOINT_ENDINGS
from ..comparison.subject import Choice
from ..datasets.dataset import Dataset
from ..datasets.examination import Examination, examine
from ..datasets.layouts import CocoFile, read_dataset
from ..distributed import Group
from ..engine_choice import settle_engine
from ..exporting.exported import Exported
from ..provenance import provenance
from .category_map import choose_categories
from .coco import DEFAULT_ENGINE, Scores, evaluate, read_detections, rows_of, write_detections
from .detect import NetworkDetector, Report, Running, detect_by
from .finished import Finished, Parts, write_line
from .pipeline import Settings
from .score_record import ModelRun, ScoreRecord
from .subject import of_file, of_model
from .unfinished import Place, kept
from .weights_used import AS_IN_FILE, weights_used


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What to evaluate, and how, as it is asked for."""

    coco: Path | CocoFile
    model: str | None = None
    checkpoint: Path | None = None
    weights: str | None = None  # "ema" or "raw"; None: moving averages where there are any
    function: str | None = None  # as `loading.load` has it
    split: str | None = None
    settings: Settings = field(default_factory=Settings)
    limit: int | None = None  # only the first N images
    engine: str = DEFAULT_NETWORK_ENGINE  # of `engines.ENGINES`, or `choice.AUTO`
    precision: str = "float32"  # of `engines.PRECISIONS`
    metrics_engine: str = DEFAULT_ENGINE
    category_map: Path | None = None
    detections: Path | None = None  # COCO results are written here
    batch: int = 1
    workers: int = 1
    device: str = "cpu"
    strict: bool = False  # refuse a dataset with faults, and stop at the first image that cannot be read
    resume: bool = False
    verify: bool = True
    exported: Exported | None = None  # a file in the place of a model, whose weights `checkpoint` may name


def evaluate_model(
    asked: Evaluation,
    fetch: Callable[[str], Path],
    command: str,
    report: Report | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> ScoreRecord | None:
    """The record of an evaluation; None in every process of a group but its first.

    `say` gets a line about the engine where it was chosen. Raises EffconvError for bad input.
    """
    if asked.resume and asked.detections is None:
        raise EffconvError(
            "name the file of detections of the run to go on with", parameters={"resume": True, "detections": None}
        )
    file, unnamed = asked.exported, asked.checkpoint is None or asked.checkpoint.suffix != ".safetensors"
    if file is None and asked.model is None and unnamed:
        raise EffconvError("name the model to evaluate", parameters={"model": "d0"})
    group = Group()
    dataset, examination = _examined(asked, group)
    choice = Choice(asked.model, asked.checkpoint, asked.weights, function=asked.function, verify=asked.verify)
    subject = of_file(file, choice, asked.settings, fetch) if file else of_model(choice, asked.settings, fetch)
    detector, pipeline, path = subject.detector, subject.pipeline, subject.weights
    categories = choose_categories(pipeline.config, dataset, asked.category_map)
    images = dataset.images[: asked.limit]
    place = Place(asked.detections, "--detections", Path("detections.json"), ".parts")
    parts = place.beside(asked.detections) if asked.detections else None
    running = Running(
        batch=min(asked.batch, max(1, len(images))),  # it has its rows whether there are images for them or not
        workers=asked.workers,
        device=asked.device,
        strict=asked.strict,
        parts=parts,
        resume=asked.resume,
        engine=subject.runtime or asked.engine,
        precision=asked.precision,
    )
    finished: list[Finished] = []

    def keep(output: Path | None) -> str:
        if group.rank > 0 or all(each.failure for each in finished):
            return ""
        if output:
            with Parts(place.beside(output), detector.key(pipeline, dataset, running)).open(0) as file:
                for each in finished:
                    write_line(file, each)
        return "images" if parts and group.size > 1 else f"{len(finished)} of {len(images)} images"

    with kept(place, command, keep):
        with group.joined(asked.device):
            if isinstance(detector, NetworkDetector):
                engine = settle_engine(
                    asked.engine,
                    detector.model,
                    pipeline.config.image_size,
                    len(images),
                    say,
                    device=asked.device,
                    precision=asked.precision,
                    earlier=min(parts.glob("*.jsonl"), default=None) if parts and asked.resume else None,
                    group=group,
                )
                running = dataclasses.replace(running, engine=engine)
            started = time.monotonic()
            results = detect_by(detector, pipeline, dataset, images, running, group, report, finished)
            seconds = time.monotonic() - started
        if group.rank > 0:
            return None
        failures = [each.failure for each in results if each.failure]
        if len(failures) == len(results):
            first = f"; the first: {failures[0]}" if failures else ""
            raise ImageError(
                f"{dataset.path.name}: none of {len(results)} images could be read, so nothing is scored{first}"
            )
        found = rows_of(results, categories)
        scores = evaluate(dataset, found, images, asked.metrics_engine)
        if asked.detections:
            write_detections(found, asked.detections)
    skipped = {str(each.image_id): each.failure for each in results if each.failure}
    weights = weights_used(path, pipeline.config, asked.weights) if path else AS_IN_FILE
    conditions = {
        **pipeline.conditions(weights, subject.precision or asked.precision),
        "split": dataset.split,
        "images": len(images) - len(skipped),
        "annotations": dataset.content,
    }
    run = ModelRun(
        model=pipeline.config.name,
        checkpoint=path.name if path else subject.name,
        fingerprint=fingerprint_of(path, asked.verify) if path else None,
        weights_file=subject.identity,
        conditions=conditions,
        network_engine=running.engine,
        seconds=seconds,
        processes=group.size,
        not_finite={str(each.image_id): each.not_finite for each in results if each.not_finite},
        exported=subject.exported,
    )
    record = _record(pipeline.config.name, scores, dataset, examination, command)
    record = dataclasses.replace(record, skipped=skipped, run=run)
    if parts:
        shutil.rmtree(parts, ignore_errors=True)  # only now is nothing left to go on with
    return record


def evaluate_detections(asked: Evaluation, path: Path, command: str) -> ScoreRecord:
    """The record of detections that are already there, COCO results at `path`. Raises EffconvError for bad input."""
    dataset, examination = _examined(asked, Group())
    scores = evaluate(dataset, read_detections(path), dataset.images[: asked.limit], asked.metrics_engine)
    return _record(path.name, scores, dataset, examination, command)


def _examined(asked: Evaluation, group: Group) -> tuple[Dataset, Examination]:
    """The dataset, and what is wrong with it, which the group's first process says, or which is refused."""
    dataset = read_dataset(asked.coco, asked.split)
    examination = examine(dataset, dataset.images[: asked.limit])
    if asked.strict:
        examination.require_no_fault()
    if group.rank == 0:
        examination.warn()
    return dataset, examination


def _record(of: str, scores: Scores, dataset: Dataset, examination: Examination, command: str) -> ScoreRecord:
    """Metrics, and what they were measured on."""
    return ScoreRecord(
        of=of,
        annotations=dataset.path.name,
        sha256=dataset.sha256,
        images_in_all=len(dataset.images),
        images=scores.images,
        detections=scores.detections,
        metrics_engine=scores.engine,
        metrics=scores.metrics,
        per_category={dataset.categories[number]: value for number, value in scores.per_category.items()},
        skipped={},
        dataset_faults=examination.record(),
        provenance={"command": command, **provenance()},
    )


def fingerprint_of(path: Path, verify: bool) -> str | None:
    """The label of the released checkpoint a file is, by its tensors' checksums; None when it is none of them.

    An index may be of a release and the data beside it not: with `verify` the data is checked, and CheckpointError
    raised when it is damaged or of another checkpoint.
    """
    if path.suffix in CHECKPOINT_ENDINGS:
        return None
    checkpoint = open_checkpoint(path, verify=verify)
    if verify:
        checkpoint.verify()
    released = identify(checkpoint).released
    return released.label if released else None
