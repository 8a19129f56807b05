"""A port's own stages, by its name; what zylo117's and bonlime's code has of them, called as they call it."""

import io
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ...effdet_torch.config import Config
from ...effdet_torch.postprocessing.candidates import flatten_levels
from ...effdet_torch.preprocessing.resize import Pixels, Size
from ...errors import EffconvError
from ..provenance import version
from ..reference.pipeline import OfficialDetections
from . import stage_changes as changes
from .effdet_stages import effdet_stages
from .port_stages import XY, Outputs, PortStages, Values, detections_of_rows
from .ports import build_port, import_port

SQUARE = ("zylo117",)
ZYLO117_THRESHOLD, ZYLO117_IOU = 0.05, 0.5  # of its coco_eval.py


def port_stages(name: str, config: Config) -> PortStages:
    """A port's own stages for a model, `config.image_size` the input's.

    Raises EffconvError as `build_port` does, for a size that the port's code cannot have, and where that code fails.
    """
    height, width = config.image_size
    if name in SQUARE and height != width:
        raise EffconvError(
            f"{name}: its code makes square inputs alone, found {height}x{width}",
            parameters={"size": f"{height}x{height}"},
        )
    port, network = build_port(name, config, config.image_size)
    installed = version(name)
    label = port.naming.port + (f" {installed}" if installed else "")
    try:
        return ADAPTERS[name](label, config, network)
    except EffconvError:
        raise
    except Exception as error:  # whatever a port's code does
        line = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise EffconvError(f"{label}: its stages cannot be had: {line}") from error


class Zylo117Stages:
    """zylo117's, as its coco_eval.py calls them. See Stages. It opens files alone, so that it is given some."""

    def __init__(self, label: str, config: Config, network: Any):
        self.label, self.config, self.network = label, config, network
        self.code = import_port("utils.utils", "zylo117")
        self.boxes_code = import_port("efficientdet.utils", "zylo117")

    def pixels(self, encoded: bytes) -> Pixels:
        """See Stages."""
        with _file(encoded) as path:
            original = self.code.preprocess(path, max_size=self.config.image_size[0])[0][0]
        return np.ascontiguousarray(original[..., ::-1])

    def _preprocessed(self, pixels: Pixels) -> tuple[Any, Any]:
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "PNG", compress_level=1)
        mean, std = ([value / 255 for value in values] for values in (self.config.mean, self.config.std))
        with _file(content.getvalue()) as path:
            _, framed, metas = self.code.preprocess(path, max_size=self.config.image_size[0], mean=mean, std=std)
        return framed[0], metas[0]

    def scale(self, picture: Size) -> Values:
        """See Stages. What its invert_affine divides by, of each axis."""
        new_width, new_height, width, height, *_ = self._preprocessed(np.zeros((*picture, 3), np.uint8))[1]
        return np.array([height / new_height, width / new_width])

    def input(self, pixels: Pixels) -> NDArray[np.float32]:
        """See Stages."""
        image = torch.from_numpy(self._preprocessed(pixels)[0]).float()
        return np.asarray(image[None].permute(0, 3, 1, 2).numpy())

    def anchors(self) -> Tensor:
        """See Stages."""
        height, width = self.config.image_size
        found: Tensor = self.network.anchors(torch.zeros(1, 3, height, width))[0]
        return found

    def boxes(self, codes: Tensor, anchors: Tensor) -> Tensor:
        """See Stages."""
        found: Tensor = self.boxes_code.BBoxTransform()(anchors[None], codes[None])[0][:, XY]
        return found

    def detections(self, outputs: Outputs) -> OfficialDetections:
        """See Stages."""
        height, width = self.config.image_size
        code, classes = self.boxes_code, self.config.num_classes
        (found,) = self.code.postprocess(
            torch.zeros(1, 3, height, width),
            outputs.anchors[None],
            flatten_levels(outputs.box_codes, 4),
            flatten_levels(outputs.class_logits, classes).sigmoid(),
            code.BBoxTransform(),
            code.ClipBoxes(),
            ZYLO117_THRESHOLD,
            ZYLO117_IOU,
        )
        # (new side, old side) of each axis, so that the official scale is what it divides by.
        found = self.code.invert_affine([(1, 1, outputs.scale, outputs.scale, 0, 0)], [found])[0]
        boxes = found["rois"].reshape(-1, 4)[:, XY].astype(np.float32)
        return OfficialDetections(boxes, found["scores"].astype(np.float32), found["class_ids"].astype(np.int64) + 1)


def _zylo117(label: str, config: Config, network: Any) -> PortStages:
    known = [
        changes.PILLOW_DECODING,
        changes.whole_pixel_scale("scale"),
        changes.whole_pixel_scale("input"),
        changes.LEGACY_ANCHORS,
        changes.BEST_CLASS,
        changes.clipped_at_last_pixel(config),
        changes.hard(ZYLO117_IOU, ZYLO117_THRESHOLD, changes.KEEP_ALL),
    ]
    return PortStages(Zylo117Stages(label, config, network), known)


class PytorchToolsStages:
    """bonlime's, as its `predict` calls them: it has no decoding of files, no resizing and no scale. See Stages."""

    def __init__(self, label: str, config: Config, network: Any):
        self.label, self.config = label, config
        import_port("torchvision", "pytorch-tools")  # whose operator it calls without importing it
        self.code = import_port("pytorch_tools.utils.box", "pytorch-tools")

    def pixels(self, encoded: bytes) -> None:
        """See Stages."""

    def scale(self, picture: Size) -> None:
        """See Stages."""

    def input(self, pixels: Pixels) -> None:
        """See Stages."""

    def anchors(self) -> Tensor:
        """See Stages."""
        found: Tensor = self.code.generate_anchors_boxes(self.config.image_size)[0][:, XY]
        return found

    def boxes(self, codes: Tensor, anchors: Tensor) -> Tensor:
        """See Stages."""
        found: Tensor = self.code.delta2box(codes[:, XY], anchors[:, XY])[:, XY]
        return found

    def detections(self, outputs: Outputs) -> OfficialDetections:
        """See Stages. Its boxes are in pixels of the input: the official scale is put to them here."""
        logits = flatten_levels(outputs.class_logits, self.config.num_classes)
        codes = flatten_levels(outputs.box_codes, 4)
        rows = self.code.decode(logits, codes[..., XY], outputs.anchors[:, XY])[0]
        rows = rows[rows[:, 4] > 0]
        return detections_of_rows(torch.cat([rows[:, :4] * outputs.scale, rows[:, 4:]], 1))


def _pytorch_tools(label: str, config: Config, network: Any) -> PortStages:
    known = [
        changes.clamped_sizes("boxes", 4.135),
        changes.clamped_sizes("detections", 4.135),
        changes.top_pairs(3000),
        changes.hard(0.5),
        changes.MOVED_APART,
    ]
    return PortStages(PytorchToolsStages(label, config, network), known)


@contextmanager
def _file(content: bytes) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture")
        path.write_bytes(content)
        yield str(path)


ADAPTERS: Mapping[str, Callable[[str, Config, Any], PortStages]] = {
    "effdet": effdet_stages,
    "zylo117": _zylo117,
    "pytorch-tools": _pytorch_tools,
}
