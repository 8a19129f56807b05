"""What effdet, zylo117's and bonlime's code has between a picture's bytes and detections, called as they call it."""

import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ...effdet_torch.config import Config
from ...effdet_torch.postprocessing.candidates import flatten_levels
from ...effdet_torch.preprocessing.resize import Pixels, Size
from ..provenance import version
from ..reference.pipeline import OfficialDetections
from . import stage_changes as changes
from .port_stages import Change, Levels, Outputs, Stages, Values
from .ports import build_port, import_port

XY = [1, 0, 3, 2]  # y before x to x before y, and back
ZYLO117_THRESHOLD, ZYLO117_IOU = 0.05, 0.5  # of its coco_eval.py


class PortStages(NamedTuple):
    """A port's stages, and what its code says it does otherwise than the official one."""

    stages: Stages
    changes: Sequence[Change]


def port_stages(name: str, config: Config) -> PortStages:
    """A port's own stages for a model, `config.image_size` the input's. Raises EffconvError as `build_port` does."""
    port, network = build_port(name, config, config.image_size)
    installed = version(name)
    label = port.naming.port + (f" {installed}" if installed else "")
    return ADAPTERS[name](label, config, network)


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
        return _detections(rows[rows[:, 4] > 0])


def _effdet(label: str, config: Config, network: Any) -> PortStages:
    stages = EffdetStages(label, config, network)
    colour = stages.transforms.resolve_fill_color(stages.picture["fill_color"], stages.picture["mean"])
    known = [
        changes.PILLOW_DECODING,
        changes.ANTIALIASED,
        changes.FLOAT64_SIZE,
        changes.padding(colour),
        changes.LEGACY_ANCHORS,
        changes.clipped_to_picture(),
    ]
    if not stages.settings.soft_nms:
        known.append(changes.hard(0.5))
    return PortStages(stages, known)


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
        return _detections(torch.cat([rows[:, :4] * outputs.scale, rows[:, 4:]], 1))


def _pytorch_tools(label: str, config: Config, network: Any) -> PortStages:
    known = [
        changes.clamped_sizes("boxes", 4.135),
        changes.clamped_sizes("detections", 4.135),
        changes.top_pairs(3000),
        changes.hard(0.5),
        changes.MOVED_APART,
    ]
    return PortStages(PytorchToolsStages(label, config, network), known)


def _detections(rows: Tensor) -> OfficialDetections:
    """Of rows (N, 6) [xmin, ymin, xmax, ymax, score, category]."""
    return OfficialDetections(rows[:, XY].numpy(), rows[:, 4].numpy(), rows[:, 5].long().numpy())


@contextmanager
def _file(content: bytes) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture")
        path.write_bytes(content)
        yield str(path)


ADAPTERS: Mapping[str, Callable[[str, Config, Any], PortStages]] = {
    "effdet": _effdet,
    "zylo117": _zylo117,
    "pytorch-tools": _pytorch_tools,
}
