"""`effconv train` as one job: data, model, steps, evaluations, and what is left behind."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ...convert.output import replacing
from ...convert.weights_file import save_weights
from ...effdet_torch.config import Config, config_to_dict, get_config
from ...effdet_torch.training.augment import Augmentation
from ...effdet_torch.training.schedule import Kind, official_schedule
from ...effdet_torch.training.start import Start, random_model, transferred
from ...effdet_torch.training.targets import Targets
from ...effdet_torch.training.trainer import Training, TrainingError, TrainingSettings
from ...errors import first_names
from ...loading import load
from ..datasets.dataset import Dataset, read_dataset
from ..distributed import Group
from ..evaluation.coco import evaluate, rows_of
from ..evaluation.detect import Running, detect
from ..evaluation.pipeline import Settings, build
from ..provenance import provenance
from .batches import steps_per_epoch, training_batches
from .examples import TrainingSet, require_images
from .plot import plot_training
from .run_folder import MAY_CHANGE, TrainingFolder

AVERAGED, RAW, CURVE = "model.safetensors", "raw.safetensors", "curve.png"
Report = Callable[[int, int], None]
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training as it is asked for. `batch` counts the images of one step over all processes."""

    data: Path
    model: str
    out: Path
    split: str = "train2017"
    evaluation_split: str | None = "val2017"  # None: no evaluation
    init: Path | None = None  # trained weights; None: random values
    num_classes: int | None = None  # None: the initial weights', or the model's
    epochs: int = 300
    batch: int = 64
    rate: float = 0.08  # for a batch of 64
    warmup_epochs: float = 1.0
    schedule: Kind = "cosine"
    evaluate_every: int = 1  # epochs
    keep_every: int = 1000  # steps; besides after each epoch
    workers: int = 2
    device: str = "cpu"
    resume: bool = False
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    settings: TrainingSettings = field(default_factory=TrainingSettings)

    def results_depend_on(self, config: Config, processes: int) -> dict[str, Any]:
        """What must be equal for a training to be gone on with, as plain values."""
        no_matter = {"out", "resume", *MAY_CHANGE}
        values = {name: value for name, value in dataclasses.asdict(self).items() if name not in no_matter}
        paths = {name: str(value) for name, value in values.items() if isinstance(value, Path)}
        return {**values, **paths, "model": config_to_dict(config), "processes": processes}


def train(job: Job, command: str, say: Say, report: Report | None = None) -> dict[str, Any] | None:
    """Train, and return the record; None in every process of a group but its first.

    `say` is told what a reader should know at once; `report(done, total)` counts images. Raises EffconvError for bad
    input and for a training that cannot go on.
    """
    group = Group()
    with group.joined(job.device):
        say = say if group.rank == 0 else (lambda text: None)
        dataset = read_dataset(job.data, job.split)
        judged = read_dataset(job.data, job.evaluation_split) if job.evaluation_split else None
        for each in (dataset, judged) if judged else (dataset,):
            require_images(each)
        start = initial_model(job, say)
        config = start.model.config
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
        training = Training(start.model.to(job.device), schedule, job.settings, group.size)
        folder = TrainingFolder(job.out, job.results_depend_on(config, group.size))
        state = group.share(_opened(folder, job.resume) if group.rank == 0 else None)
        if state:
            training.restore(state)
            say(f"going on after {training.steps} of {per_epoch * job.epochs} steps")
        started, began_at = time.monotonic(), training.steps
        for images, targets in _batches(examples, job, training.steps, per_epoch, group):
            record = training.step(images, targets)
            epochs, rest = divmod(training.steps, per_epoch)
            if group.rank == 0:
                # Not before: a training that cannot take its first step leaves nothing, and can be tried again.
                if training.steps == 1 and not job.resume:
                    folder.begin()
                folder.log(training.steps - 1, record)
            if report:
                report(training.steps * job.batch, per_epoch * job.epochs * job.batch)
            if judged and rest == 0 and (epochs == job.epochs or epochs % job.evaluate_every == 0):
                metrics = metrics_of(training, judged, job, group)
                if group.rank == 0:
                    folder.log_evaluation(training.steps, metrics)
                say(f"epoch {epochs} of {job.epochs}: AP {metrics['AP']:.3f}, AP75 {metrics['AP75']:.3f}")
            # After the evaluation, so that one which is lost is made again.
            if group.rank == 0 and (rest == 0 or training.steps % job.keep_every == 0):
                folder.keep(training.state())
        seconds = time.monotonic() - started
    if group.rank > 0:
        return None
    write_trained_weights(training, job.out)
    if not plot_training(folder.steps(), folder.evaluations(), job.out / CURVE, config.name):
        say(f"{CURVE} is not drawn: pip install matplotlib")
    return {
        "what": "training of a detector",
        "model": config.name,
        "parameters": sum(each.numel() for each in training.model.parameters()),
        "initial_weights": job.init.name if job.init else f"random, seed {job.settings.seed}",
        "new_tensors": list(start.new),
        "images": len(examples),
        "annotations_sha256": dataset.sha256,
        "steps": training.steps,
        "seconds_of_this_session": seconds,
        "steps_of_this_session": training.steps - began_at,
        "evaluations": folder.evaluations(),
        "last_losses": folder.steps()[-1],
        "run": folder.run,
        "provenance": {"command": command, **provenance(), "device": job.device},
    }


def initial_model(job: Job, say: Say) -> Start:
    """The model a job starts from, in training mode. Says which tensors are new."""
    if job.init is None:
        config = get_config(job.model)
        return Start(
            random_model(
                dataclasses.replace(config, num_classes=job.num_classes or config.num_classes), job.settings.seed
            ),
            (),
        )
    trained = load(job.init, model=job.model)
    classes = job.num_classes or trained.config.num_classes
    start = transferred(trained.state_dict(), trained.config, classes, job.settings.seed)
    if start.new:
        say(f"{classes} classes instead of {trained.config.num_classes}; new, at random: {first_names(start.new)}")
    return start


def _opened(folder: TrainingFolder, resume: bool) -> Any:
    try:
        if resume:
            return folder.resume()
        folder.require_free()
    except TrainingError as error:
        return error  # raised by every process, so that none waits for the others
    return None


def _batches(
    examples: TrainingSet, job: Job, done: int, per_epoch: int, group: Group
) -> Iterator[tuple[Tensor, Targets]]:
    """What is left to train on after so many steps, all epochs."""
    epoch, step = divmod(done, per_epoch)
    return training_batches(
        examples,
        batch_size=job.batch,
        epochs=range(epoch, job.epochs),
        first_step=step,
        rank=group.rank,
        processes=group.size,
        workers=job.workers,
    )


def metrics_of(training: Training, dataset: Dataset, job: Job, group: Group) -> dict[str, float]:
    """The twelve metrics of the moving averages on every image of a dataset."""
    model = training.averaged()
    pipeline = build(model.config, Settings())
    batch = max(1, job.batch // group.size)
    results = detect(
        model, pipeline, dataset, dataset.images, Running(batch=batch, workers=0, device=job.device), group
    )
    return evaluate(dataset, rows_of(results, {}), dataset.images).metrics


def write_trained_weights(training: Training, folder: Path) -> None:
    """The moving averages and the raw weights, as `.safetensors` that know their model."""
    from safetensors import SafetensorError

    states = {AVERAGED: training.average.values, RAW: training.model.state_dict()}
    for name, state in states.items():
        arrays = {key: value.detach().cpu().contiguous().numpy() for key, value in state.items()}
        with replacing(folder / name, errors=(SafetensorError,)) as (file,):
            save_weights(arrays, training.model.config, file)
