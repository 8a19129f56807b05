"""The steps of a training, one after the other: logged, states kept, models evaluated, and stopped without loss."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

from ...convert.output import OutputError
from ...effdet_torch.training.not_finite import first_not_finite_weight
from ...effdet_torch.training.targets import Targets
from ...effdet_torch.training.trainer import NotFiniteError, StepRecord, Training, TrainingError
from ...errors import EffconvError, ImageError, first_names
from ...progress import Report
from ..datasets.dataset import Dataset
from ..distributed import Group, again
from ..evaluation.coco import evaluate, rows_of
from ..evaluation.detect import Running, detect
from ..evaluation.pipeline import Settings, build
from ..evaluation.report import figure
from .batches import batch_places, steps_per_epoch, training_batches
from .examples import TrainingSet
from .interruption import StoppedError, Stops
from .job import Job
from .run_folder import TrainingFolder

Say = Callable[[str], None]
Batch = tuple[Tensor, Targets]
SAID = "AP", "AP75"  # after each evaluation
SHOWN = 8  # images of a batch that are named; further ones are counted


class Session(NamedTuple):
    """What is left of a training to do in one go, by one process of a group."""

    training: Training
    examples: TrainingSet
    judged: Dataset | None  # None: no evaluation
    job: Job
    folder: TrainingFolder
    group: Group
    command: str  # the command line, for what is said about going on

    def run(self, stops: Stops, say: Say, report: Report | None) -> None:
        """Train to the end. Raises what stops it before, after keeping the state; its message says where that is."""
        training, job = self.training, self.job
        per_epoch = steps_per_epoch(len(self.examples), job.batch)
        batches = self._batches(per_epoch)
        try:
            self._judge(per_epoch, stops, say)
            while (batch := self._next(batches, stops)) is not None:
                record = training.step(*batch)
                if self.group.rank == 0:
                    # Not before: a training that cannot take its first step leaves nothing, and can be tried again.
                    if training.steps == 1 and not job.resume:
                        self.folder.begin()
                    self.folder.log(training.steps - 1, record)
                    if report:
                        report(training.steps * job.batch, per_epoch * job.epochs * job.batch, self._note(record))
                # Before the evaluation: one that is cut off is made when the training is gone on with.
                if training.steps % per_epoch == 0 or training.steps % job.keep_every == 0:
                    self._keep()
                self._judge(per_epoch, stops, say)
        except OutputError:
            raise
        except EffconvError as error:
            raise self._stopped(error, per_epoch) from error

    def _batches(self, per_epoch: int) -> Iterator[Batch]:
        """What is left to train on, all epochs."""
        epoch, step = divmod(self.training.steps, per_epoch)
        return training_batches(
            self.examples,
            batch_size=self.job.batch,
            epochs=range(epoch, self.job.epochs),
            first_step=step,
            rank=self.group.rank,
            processes=self.group.size,
            workers=self.job.workers,
        )

    def _next(self, batches: Iterator[Batch], stops: Stops) -> Batch | None:
        """The next batch; None after the last. What stops one process is raised by every one, at the same step."""
        batch, error = None, None
        try:
            batch = next(batches, None)
        except EffconvError as found:
            error = found
        for each in self.group.gather(stops.found or error):
            if each is not None:
                raise each
        return batch

    def _note(self, record: StepRecord) -> str:
        scores = self.folder.evaluations()
        return (
            f"class loss {record.classes:.4g}, box loss {record.boxes:.4g}, learning rate {record.rate:.4g}, "
            f"AP {figure(scores[-1]['AP'] if scores else None, 3)}"
        )

    def _keep(self) -> None:
        """Raises NotFiniteError for weights that no training could go on from."""
        weight = first_not_finite_weight(self.training.model)
        if weight:
            raise NotFiniteError(f"step {self.training.steps - 1} left {weight} with values that are not finite", ())
        if self.group.rank == 0:
            self.folder.keep(self.training.state())

    def _judge(self, per_epoch: int, stops: Stops, say: Say) -> None:
        """Evaluate where it is due and has not been done."""
        steps, job = self.training.steps, self.job
        epoch, rest = divmod(steps, per_epoch)
        if self.judged is None or rest or not epoch or (epoch < job.epochs and epoch % job.evaluate_every):
            return
        first = self.group.rank == 0
        if self.group.share(steps in [row["steps"] for row in self.folder.evaluations()] if first else None):
            return
        with stops.at_once():
            metrics, failures = judge(self.training, self.judged, job, self.group)
        if first:
            if new := self.folder.log_unreadable(failures):
                say(
                    f"{len(new)} of {len(self.judged.images)} images to evaluate on cannot be read; they count as "
                    f"images without detections: {first_names(new)}"
                )
            self.folder.log_evaluation(steps, metrics)
        say(f"epoch {epoch} of {job.epochs}: " + ", ".join(f"{name} {figure(metrics[name], 3)}" for name in SAID))

    def _stopped(self, error: EffconvError, per_epoch: int) -> EffconvError:
        """The error with what a reader needs to go on; the state is kept, unless weights are not finite."""
        steps, began = self.training.steps, self.training.steps > 0 or self.job.resume
        if steps and not first_not_finite_weight(self.training.model):
            self._keep()
            kept = f"the state after {steps} steps is in {self.job.out}"
        else:
            kept = f"what {self.job.out} has is as it was" if began else f"nothing is left in {self.job.out}"
        if isinstance(error, StoppedError):
            advice = f"go on with: {again(self.command, '--resume')}" if began else "no step was finished"
            if self.group.rank > 0:
                return error  # once is enough
            return StoppedError(
                error.number, f" after {steps} of {per_epoch * self.job.epochs} steps; {kept}; {advice}"
            )
        if isinstance(error, NotFiniteError):
            return TrainingError(
                f"{error}; images: {self._images(error, per_epoch)}; {kept}. If images are at fault, mend them and "
                "resume; else start anew in another folder, with a lower rate",
                parameters={"resume": True, "out": None, "rate": None},
            )
        return type(error)(f"{error}; {kept}", parameters=error.parameters) if steps else error

    def _images(self, error: NotFiniteError, per_epoch: int) -> str:
        """The images of the step that failed: those with values that are not finite, or all."""
        places = batch_places(self.examples, *divmod(self.training.steps, per_epoch), self.job.batch)
        chosen = [self.examples.images[places[each]] for each in error.images or range(len(places))]
        names = ", ".join(f"{image.path.name} (id {image.id})" for image in chosen[:SHOWN])
        return names + (f" and {len(chosen) - SHOWN} more" if len(chosen) > SHOWN else "")


def judge(training: Training, dataset: Dataset, job: Job, group: Group) -> tuple[dict[str, float], dict[str, str]]:
    """The twelve metrics of the moving averages on every image of a dataset, and {id: reason} of what cannot be read.

    Raises ImageError where no image can be, and of a strict job at the first.
    """
    model = training.averaged()
    pipeline = build(model.config, Settings())
    batch = max(1, job.batch // group.size)
    running = Running(batch=batch, workers=0, device=job.device, strict=job.strict)
    results = detect(model, pipeline, dataset, dataset.images, running, group)
    failures = {str(each.image_id): each.failure for each in results if each.failure}
    if len(failures) == len(results):
        raise ImageError(
            f"{dataset.path.name}: none of {len(results)} images could be read, so nothing is scored; "
            f"the first: {next(iter(failures.values()))}"
        )
    return evaluate(dataset, rows_of(results, {}), dataset.images).metrics, failures
