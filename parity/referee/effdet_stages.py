"""What effdet's code has between a picture's bytes and detections, called as its validation calls it."""

import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ...effdet_torch.config import Config
from ...effdet_torch.preprocessing.resize import Pixels, Size
from ..reference.pipeline import OfficialDetections
from . import stage_changes as changes
from .port_stages import Levels, Outputs, PortStages, Values, detections_of_rows
from .ports import import_port


class _Given(nn.Module):
    """A network whose outputs are given."""

    def __init__(self, config: Any, outputs: tuple[Levels, Levels]):
        super().__init__()
        self.config, self.outputs = config, outputs

    def forward(self, images: Tensor) -> tuple[Levels, Levels]:
        return self.outputs


class EffdetStages:
    """effdet's, as its validation uses them. See Stages.

    Its loader normalises on a GPU alone; the same two operations stand for it.
    """

    def __init__(self, label: str, config: Config, network: Any):
        self.label, self.config, self.settings = label, config, network.config
        self.transforms = import_port("effdet.data.transforms", "effdet")
        resolve = import_port("effdet.data.input_config", "effdet").resolve_input_config
        self.picture = resolve({"interpolation": "bilinear"}, self.settings)  # as its validate.py asks for
        self.code = import_port("effdet.anchors", "effdet")
        self.bench = import_port("effdet.bench", "effdet").DetBenchPredict

    def pixels(self, encoded: bytes) -> Pixels:
        """See Stages. As its dataset opens pictures."""
        return np.array(Image.open(io.BytesIO(encoded)).convert("RGB"))

    def _transformed(self, pixels: Pixels) -> tuple[NDArray[np.uint8], float]:
        transform = self.transforms.transforms_coco_eval(
            self.config.image_size,
            self.picture["interpolation"],
            True,
            self.picture["fill_color"],
            self.picture["mean"],
        )
        image, notes = transform(Image.fromarray(pixels), {})
        return image, float(notes["img_scale"])

    def scale(self, picture: Size) -> Values:
        """See Stages."""
        return np.array([self._transformed(np.zeros((*picture, 3), np.uint8))[1]] * 2)

    def input(self, pixels: Pixels) -> NDArray[np.float32]:
        """See Stages."""
        mean, std = (
            torch.tensor([255 * each for each in values]).view(1, 3, 1, 1)
            for values in (self.picture["mean"], self.picture["std"])
        )
        image = torch.from_numpy(self._transformed(pixels)[0])[None]
        return np.asarray(image.float().sub_(mean).div_(std).numpy())

    def anchors(self) -> Tensor:
        """See Stages."""
        boxes: Tensor = self.code.Anchors.from_config(self.settings).boxes
        return boxes

    def boxes(self, codes: Tensor, anchors: Tensor) -> Tensor:
        """See Stages."""
        decoded: Tensor = self.code.decode_box_outputs(codes, anchors)
        return decoded

    def detections(self, outputs: Outputs) -> OfficialDetections:
        """See Stages. Its bench of a network that gives the official outputs, with the official anchors."""
        bench = self.bench(_Given(self.settings, (outputs.class_logits, outputs.box_codes))).eval()
        bench.anchors.boxes = outputs.anchors
        about = {
            "img_scale": torch.tensor([outputs.scale]),
            "img_size": torch.tensor([outputs.picture[::-1]], dtype=torch.float32),
        }
        with torch.inference_mode():
            rows = bench(torch.zeros(1, 3, 1, 1), about)[0]
        return detections_of_rows(rows[rows[:, 4] > 0])


def effdet_stages(label: str, config: Config, network: Any) -> PortStages:
    """effdet's stages, and what its code does otherwise."""
    stages = EffdetStages(label, config, network)
    colour = stages.transforms.resolve_fill_color(stages.picture["fill_color"], stages.picture["mean"])
    known = [
        changes.PILLOW_DECODING,
        changes.ANTIALIASED,
        changes.FLOAT64_SIZE,
        changes.padding(colour),
        changes.normalising(*([255 * each for each in stages.picture[name]] for name in ("mean", "std"))),
        changes.LEGACY_ANCHORS,
        changes.clipped_to_picture(),
    ]
    if not stages.settings.soft_nms:
        known.append(changes.hard(0.5))
    return PortStages(stages, known)
