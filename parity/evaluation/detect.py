"""A model on the images of a dataset: detections of each, by one process or many, resumable, in the dataset's order.

Processes share the images by turns and exchange results over torch.distributed: gloo on CPUs, nccl on GPUs. Start them
with `torchrun --nproc-per-node N -m effconv.cli eval ...`.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...effdet_torch.config import config_to_dict
from ...effdet_torch.digests import weights_digest
from ...effdet_torch.engines.engines import DEFAULT_NETWORK_ENGINE, make_engine
from ...effdet_torch.model import EfficientDet
from ...effdet_torch.postprocessing.compiled_code import load_compiled
from ...effdet_torch.postprocessing.detections import Detections, coco_rows, finite, found
from ...errors import EffconvError, ImageError
from ...version import __version__
from ..datasets.dataset import Dataset, Image
from ..distributed import Group
from ..engine_choice import graphs_folder
from .contents import code_digest, content
from .finished import COLUMNS, Finished, Parts, write_line
from .image_stream import Batch, stream
from .pipeline import Pipeline

Report = Callable[[int, int], None]
# (inputs (B, 3, H, W), how many of them are images, scales (B,)) -> detections of the images, in original pixels.
Find = Callable[[Tensor, int, Tensor], Detections]


@dataclass(frozen=True, kw_only=True)
class Running:
    """How a run is carried out; none of it but `batch`, `device`, `engine` and `precision` may change a result."""

    batch: int = 1
    workers: int = 1
    device: str = "cpu"
    engine: str = DEFAULT_NETWORK_ENGINE  # of `engines.ENGINES`
    precision: str = "float32"  # of `engines.PRECISIONS`
    strict: bool = False  # stop at the first image that cannot be read
    parts: Path | None = None  # where finished images are kept; None: nowhere
    resume: bool = False


class Detector(Protocol):
    """What finds objects in preprocessed images."""

    def key(self, pipeline: Pipeline, dataset: Dataset, running: Running) -> dict[str, Any]:
        """Everything that results depend on."""

    def prepared(self, pipeline: Pipeline, running: Running) -> Find:
        """The detector ready to run."""


@dataclass(frozen=True)
class NetworkDetector:
    """A model, and the pipeline's steps after it."""

    model: EfficientDet

    def key(self, pipeline: Pipeline, dataset: Dataset, running: Running) -> dict[str, Any]:
        """As `run_key` has it."""
        return run_key(self.model, pipeline, dataset, running)

    def prepared(self, pipeline: Pipeline, running: Running) -> Find:
        """By the engine of `running`, on its device. Raises EffconvError as `make_engine` does."""
        network = make_engine(
            running.engine,
            self.model.to(running.device),
            pipeline.config.image_size,
            running.precision,
            graphs_folder(),
        )
        dtype = next(network.parameters()).dtype
        compiled: list[Future[None]] = []

        def find(inputs: Tensor, count: int, scales: Tensor) -> Detections:
            if not compiled:  # while the network is slow: its first pass prepares itself
                thread = ThreadPoolExecutor(1)
                compiled.append(thread.submit(load_compiled))
                thread.shutdown(wait=False)
            outputs = network(inputs.to(running.device, dtype))
            compiled[0].result()  # what fails there is said here
            # Rows without an image are left out before anything is made of them.
            logits, codes = ([level[:count].float() for level in kind] for kind in outputs)
            return pipeline.postprocess(logits, codes, scales[:count].to(running.device))

        return find


def detect(
    model: EfficientDet,
    pipeline: Pipeline,
    dataset: Dataset,
    images: Sequence[Image],
    running: Running,
    group: Group,
    report: Report | None = None,
    finished: list[Finished] | None = None,
) -> list[Finished]:
    """Results of `images` by a model, as `detect_by` has them."""
    return detect_by(NetworkDetector(model), pipeline, dataset, images, running, group, report, finished)


def detect_by(
    detector: Detector,
    pipeline: Pipeline,
    dataset: Dataset,
    images: Sequence[Image],
    running: Running,
    group: Group,
    report: Report | None = None,
    finished: list[Finished] | None = None,
) -> list[Finished]:
    """Results of `images`, in their order, on every process of the group.

    The network and what follows it run on `running.device`. `report(done, total)` counts images of all processes, as
    far as this one can know. This process's results are appended to `finished`, too, as they are made, after those of
    earlier sessions. A batch is no larger than the number of images.
    Raises EffconvError for a run that cannot be resumed, and ImageError in a strict run.
    """
    # A batch has its rows whether there are images for them or not.
    running = replace(running, batch=min(running.batch, max(1, len(images))))
    parts = Parts(running.parts, detector.key(pipeline, dataset, running)) if running.parts else None
    earlier = group.share(_earlier(parts, images, running.resume) if group.rank == 0 else None)
    left = [image for image in images if image.id not in earlier]
    mine = left[group.rank :: group.size]
    mine_done: dict[int, Finished] = {}
    finished = [] if finished is None else finished
    finished += earlier.values()
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(parts.open(group.rank)) if parts else None
        # The first images are read while the detector is made ready.
        batches = stream(mine, pipeline.preprocess, running.batch, running.workers)
        find = detector.prepared(pipeline, running)
        for result in _results(find, batches, running):
            mine_done[result.image_id] = result
            finished.append(result)
            if file:
                write_line(file, result)
            if report and group.rank == 0:
                report(min(len(earlier) + len(mine_done) * group.size, len(images)), len(images))
    everything = dict(earlier)
    for results in group.gather(mine_done):
        everything.update(results)
    return [everything[image.id] for image in images]


def _earlier(parts: Parts | None, images: Sequence[Image], resume: bool) -> dict[int, Finished] | EffconvError:
    if parts is None:
        return {}
    if not resume:
        parts.remove()
        return {}
    try:
        found = parts.read()
        # An image that could not be read may have been restored since, and any other replaced by another of its name.
        kept = [image for image in images if image.id in found and not found[image.id].failure]
        return {image.id: found[image.id] for image in kept if found[image.id].content == content(image)}
    except EffconvError as error:
        return error  # raised by every process, so that none waits for the others


def run_key(model: EfficientDet, pipeline: Pipeline, dataset: Dataset, running: Running) -> dict[str, Any]:
    """Everything that results depend on."""
    return {
        "effconv": __version__,
        "code_sha256": code_digest(),
        "torch": torch.__version__,
        "weights_sha256": weights_digest(model),
        "annotations_sha256": dataset.sha256,
        "config": config_to_dict(model.config),
        "settings": pipeline.conditions(None, str(next(model.parameters()).dtype)),
        "batch": running.batch,
        "device": running.device,
        "engine": running.engine,
        "precision": running.precision,
    }


def _results(find: Find, batches: Iterator[Batch], running: Running) -> Iterator[Finished]:
    for batch in batches:
        for image, reason in batch.failures:
            if running.strict:
                raise ImageError(reason)
            yield Finished(image.id, np.zeros((0, COLUMNS), np.float32), reason)
        if not batch.images:
            continue
        with torch.inference_mode():
            detections = find(batch.inputs, len(batch.images), batch.scales)
        for row, image in enumerate(batch.images):
            rows, not_finite = found_rows(detections, row)
            yield Finished(image.id, rows, content=batch.contents[row], not_finite=not_finite)


def found_rows(detections: Detections, row: int) -> tuple[NDArray[np.float32], int]:
    """((N, 6) float32 [x, y, width, height, score, category id], how many are left out) of one image of a batch.

    Padding is left out and not counted; so are, and counted, detections that are not finite, as COCO's metrics want it.
    In float32 and not rounded, which is what the official evaluation hands to pycocotools.
    """
    objects = found(detections, row)
    kept = finite(objects.boxes, objects.scores)[0].cpu().numpy()
    return coco_rows(objects, [0])[0, kept, 1:], int((~kept).sum())
