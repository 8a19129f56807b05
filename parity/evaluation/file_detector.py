"""A file that `effconv export` wrote, as what is evaluated: it detects, or what it gives is decoded and suppressed."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...effdet_torch.config import config_to_dict
from ...effdet_torch.postprocessing.detections import Detections
from ...version import __version__
from ..datasets.dataset import Dataset
from ..exporting.exported import Exported
from .contents import package_digest
from .detect import Find, Running
from .pipeline import Pipeline, Settings, build


@dataclass(frozen=True)
class FileDetector:
    """A `detect.Detector` that an exported file is."""

    file: Exported

    def pipeline(self, settings: Settings) -> Pipeline:
        """The steps around the file. Of a detector, whose own limits stand in the settings, the last is not used."""
        about = self.file.about
        if self.file.raw:
            return build(about.config, settings)
        own = dataclasses.replace(
            settings,
            nms="hard",
            score_threshold=about.detecting.score_threshold,
            max_detections=about.detecting.max_outputs,
        )
        pipeline = build(about.config, own)
        return pipeline._replace(settings=dataclasses.replace(own, candidates=self.file.candidates))

    def key(self, pipeline: Pipeline, dataset: Dataset, running: Running) -> dict[str, Any]:
        """Everything that results depend on."""
        return {
            "effconv": __version__,
            "code_sha256": package_digest(),
            "file_sha256": self.file.sha256,
            "runtime": self.file.runtime,
            "torch": torch.__version__,  # decodes and suppresses what a raw file gives
            "annotations_sha256": dataset.sha256,
            "config": config_to_dict(pipeline.config),
            "settings": pipeline.conditions(None, self.file.about.precision),
            "batch": running.batch,
        }

    def prepared(self, pipeline: Pipeline, running: Running) -> Find:
        """Images as the file takes them, rounded to whole pixels where it takes pixels, to detections."""

        def find(inputs: Tensor, count: int, scales: Tensor) -> Detections:
            images = self.file.taken(inputs[:count])
            if self.file.raw:
                return pipeline.postprocess(*self.file.outputs(images), scales[:count])
            return self.file.detections(images).scaled(scales[:count])

        return find

    def record(self) -> Mapping[str, Any]:
        """What the record says of the file."""
        about = self.file.about
        return {
            "file": self.file.name,
            "sha256": self.file.sha256,
            "weights_sha256": about.weights_sha256,
            "runtime": self.file.runtime,
            "precision": about.precision,
            "input": "uint8" if about.detecting.pixels else "float32",
            "detections": "decoded and suppressed by effconv" if self.file.raw else "by the file",
        }
