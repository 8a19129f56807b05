"""`effconv train` as one job: data, model, steps, evaluations, and what is left behind."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...convert import output_kinds
from ...convert.output import replacing
from ...convert.weights_file import save_weights
from ...effdet_torch.categories import COCO_CATEGORIES, COCO_CLASSES
from ...effdet_torch.config import Config, ConfigError, get_config
from ...effdet_torch.training.schedule import official_schedule
from ...effdet_torch.training.start import Start, random_model, transferred
from ...effdet_torch.training.trainer import Training, TrainingError
from ...loading import load, read_backbone
from ...progress import Report
from ..datasets.dataset import Dataset, DatasetError
from ..datasets.examination import examine
from ..datasets.renumbering import known_names, mapping_text, matched, renumbered, shown, training_numbers
from ..distributed import Group
from ..provenance import provenance
from .batches import steps_per_epoch
from .class_head import class_head
from .examples import TrainingSet, require_images
from .finetuning import average_decay
from .interruption import Stops
from .job import Job
from .plot import plot_training
from .run_folder import EVALUATIONS, LOG, STATE, STEPS, UNREADABLE, TrainingFolder
from .session import Say, Session
from .splits import read_splits

AVERAGED, RAW, CURVE = "model.safetensors", "raw.safetensors", "curve.png"


def training_outputs(folder: Path) -> dict[Path, output_kinds.Kind]:
    """The files that a training will write there, besides the one that says which training it is."""
    kinds = {AVERAGED: output_kinds.WEIGHTS, RAW: output_kinds.WEIGHTS, CURVE: output_kinds.PICTURE}
    return {
        folder / name: kind
        for name, kind in {**kinds, **dict.fromkeys((STATE, STEPS, EVALUATIONS, UNREADABLE), LOG)}.items()
    }


def train(job: Job, command: str, say: Say, report: Report | None = None) -> dict[str, Any] | None:
    """Train, and return the record; None in every process of a group but its first.

    `say` is told what a reader should know at once; `report(done, total, note)` counts images. Raises EffconvError for
    bad input and for a training that cannot go on, and StoppedError, which says how to go on, after Ctrl-C or SIGTERM.
    """
    group = Group()
    say = say if group.rank == 0 else (lambda text: None)
    stops = Stops(say)
    with group.joined(job.device), stops.listening():
        dataset, judged = read_splits(job, say)
        job = dataclasses.replace(job, split=dataset.split, evaluation_split=judged.split if judged else None)
        sets = (dataset, judged) if judged else (dataset,)
        for each in sets:
            require_images(each)
        examinations = [examine(each, each.images) for each in sets]
        for examination in examinations:
            if job.strict:
                examination.require_no_fault()
            if group.rank == 0:
                examination.warn()
        start, numbers, head = initial_model(job, dataset, say)
        config = start.model.config
        names = {new: dataset.categories[old] for old, new in numbers.items()}
        dataset = renumbered(dataset, numbers)
        judged = judged and under_names(judged, names)
        examples = TrainingSet(dataset, config, augmentation=job.augmentation, seed=job.settings.seed)
        per_epoch = steps_per_epoch(len(examples), job.batch)
        schedule = official_schedule(
            batch=job.batch,
            steps_per_epoch=per_epoch,
            epochs=job.epochs,
            rate=job.rate,
            warmup_rate=job.rate / 10,
            warmup_epochs=job.warmup_epochs,
            kind=job.schedule,
        )
        settings = job.settings
        if job.average_span is not None:
            settings = dataclasses.replace(
                settings, average_decay=average_decay(schedule.total_steps, job.average_span)
            )
        training = Training(start.model.to(job.device), schedule, settings, group.size)
        folder = TrainingFolder(job.out, job.results_depend_on(config, group.size))
        state = group.share(_opened(folder, job.resume) if group.rank == 0 else None)
        if state:
            training.restore(state)
            say(f"going on after {training.steps} of {per_epoch * job.epochs} steps")
        elif head:
            say(f"class head: {head}")
        started, began_at = time.monotonic(), training.steps
        Session(training, examples, judged, job, folder, group, command).run(stops, say, report)
        seconds = time.monotonic() - started
    if group.rank > 0:
        return None
    write_trained_weights(training, job.out, class_names(dataset, training.model.config))
    if not plot_training(folder.steps(), folder.evaluations(), job.out / CURVE, config.name):
        say(f"{CURVE} is not drawn: pip install matplotlib")
    return {
        "what": "training of a detector",
        "model": config.name,
        "parameters": sum(each.numel() for each in training.model.parameters()),
        "initial_weights": job.init.name if job.init else f"random, seed {job.settings.seed}",
        **({"initial_backbone": job.backbone.name} if job.backbone else {}),
        "new_tensors": list(start.new),
        **({"class_head": head} if head else {}),
        "images": len(examples),
        "annotations_sha256": dataset.sha256,
        "dataset_faults": {each.dataset.split: each.record() for each in examinations},
        "steps": training.steps,
        "seconds_of_this_session": seconds,
        "steps_of_this_session": training.steps - began_at,
        "evaluations": folder.evaluations(),
        "skipped": folder.unreadable(),  # by evaluations
        "last_losses": folder.steps()[-1],
        "run": folder.run,
        "provenance": {"command": command, **provenance(), "device": job.device},
    }


def initial_model(job: Job, dataset: Dataset, say: Say) -> tuple[Start, dict[int, int], str]:
    """(the model a job starts from, in training mode; {dataset's category id: the model's}; what became of its class
    head, "" where there was none).

    Says which category is which where the ids are not the dataset's.
    """
    if job.init is None:
        if job.model is None:
            raise ConfigError("name the model to train from nothing", parameters={"model": "d0"})
        config = get_config(job.model)
        numbers, classes = _classes(job, dataset, config, say)
        own = classes == config.num_classes
        config = dataclasses.replace(config, num_classes=classes, class_names=config.class_names if own else ())
        start = Start(random_model(config, job.settings.seed), ())
        if job.backbone:
            backbone = read_backbone(job.backbone, config)
            tensors = {key: torch.from_numpy(value) for key, value in backbone.state.items()}
            start.model.load_state_dict(tensors, strict=False)  # the backbone's every key, as was checked
            say(f"{len(tensors)} tensors of the backbone from {job.backbone.name}; the rest at random")
        return start, numbers, ""
    trained = load(job.init, model=job.model)
    numbers, classes = _classes(job, dataset, trained.config, say)
    head = class_head(trained.config, {new: dataset.categories[old] for old, new in numbers.items()}, classes)
    return transferred(trained.state_dict(), trained.config, head.rows, job.settings.seed), numbers, head.said


def _classes(job: Job, dataset: Dataset, config: Config, say: Say) -> tuple[dict[int, int], int]:
    """{dataset's category id: the model's}, and how many classes the model has."""
    numbers = training_numbers(dataset, config, job.num_classes)
    if all(old == new for old, new in numbers.items()):
        anew = not job.num_classes and known_names(config) and not matched(known_names(config), dataset.categories)
    else:
        say(f"categories: {mapping_text(numbers, dataset.categories)}")
        anew = not job.num_classes and not matched(known_names(config), dataset.categories)
    return numbers, len(numbers) if anew else job.num_classes or config.num_classes


def under_names(judged: Dataset, names: Mapping[int, str]) -> Dataset:
    """A dataset to evaluate on with the numbers that its categories are trained under, by their names.

    Raises DatasetError showing both lists where it has others.
    """
    if judged.categories.items() <= names.items():
        return judged
    numbers = matched(names, judged.categories)
    if numbers is None:
        raise DatasetError(
            f"{judged.path}: has {shown(judged.categories)}; {shown(names)} are trained; evaluate on these",
            parameters={"eval_split": None},
        )
    return renumbered(judged, numbers)


def _opened(folder: TrainingFolder, resume: bool) -> Any:
    try:
        if resume:
            return folder.resume()
        folder.require_free()
    except TrainingError as error:
        return error  # raised by every process, so that none waits for the others
    return None


def class_names(dataset: Dataset, config: Config) -> tuple[str, ...]:
    """What a model trained on a dataset calls its classes; empty where they are COCO's, which every reader knows."""
    names = tuple(dataset.categories.get(number, "") for number in range(1, config.num_classes + 1))
    official = tuple(COCO_CATEGORIES.get(number, "") for number in range(1, COCO_CLASSES + 1))
    return () if names == official else names


def write_trained_weights(training: Training, folder: Path, names: tuple[str, ...]) -> None:
    """The moving averages and the raw weights, as `.safetensors` that know their model and its classes' names."""
    from safetensors import SafetensorError

    states = ((AVERAGED, "ema", training.average.values), (RAW, "raw", training.model.state_dict()))
    for name, weights, state in states:
        arrays = {key: value.detach().cpu().contiguous().numpy() for key, value in state.items()}
        with replacing(folder / name, errors=(SafetensorError,)) as (file,):
            save_weights(arrays, dataclasses.replace(training.model.config, class_names=names), file, weights)
