"""A port in plain operations, and the picture and outputs of heads that its stages are compared on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from effconv.effdet_torch.postprocessing.candidates import flatten_levels
from effconv.effdet_torch.preprocessing.decode import decode
from effconv.parity.referee.compare_stages import StageComparison, compare_stages
from effconv.parity.referee.port_stages import Change, Levels, Outputs, OwnStages, Stages, Values
from effconv.parity.referee.stage_outputs import outputs_of_objects
from effconv.parity.reference.pipeline import OfficialDetections
from effconv.parity.traces.images import drawn
from recorded_losses import CONFIG

PICTURE = 180, 299  # (H, W): 96 x 159 in the input by the official float32, 96 x 160 by float64
ENCODED = drawn(0, PICTURE)
OBJECTS = torch.tensor([[8.0, 12.0, 60.0, 90.0], [30.0, 70.0, 110.0, 158.0], [1.0, 2.0, 40.0, 40.0]])
CLASSES = [1, 3, 1]
OWN = OwnStages.official(CONFIG)


def heads(image: Tensor) -> tuple[Levels, Levels]:
    assert image.shape == (1, 3, *CONFIG.image_size)
    logits, codes = outputs_of_objects(CONFIG, OBJECTS, CLASSES)
    codes[0][0, :4, 0, 0] = torch.tensor([3.0, -3.0, 2.0, 2.0])  # a box beyond the picture
    return logits, codes


class PlainPort:
    """What a port may have, in plain operations; the faults below are changes of it."""

    label = "a plain port"

    def pixels(self, encoded: bytes) -> NDArray[np.uint8]:
        return decode(encoded, name="picture")

    def fitted(self, size: tuple[int, int]) -> tuple[tuple[int, int], np.float32]:
        target = CONFIG.image_size
        scale = min(np.float32(wanted) / np.float32(given) for wanted, given in zip(target, size, strict=True))
        return (int(np.float32(size[0]) * scale), int(np.float32(size[1]) * scale)), scale

    def scale(self, picture: tuple[int, int]) -> Values:
        return np.array([1 / float(self.fitted(picture)[1])] * 2)

    def input(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        size, _ = self.fitted((pixels.shape[0], pixels.shape[1]))
        scaled = self.resized(self.normalised(pixels), size)
        return np.asarray(functional.pad(scaled, self.sides(size)).numpy())

    def normalised(self, pixels: NDArray[np.uint8]) -> Tensor:
        mean, std = (torch.tensor(each) / 255 for each in (CONFIG.mean, CONFIG.std))
        return ((torch.from_numpy(pixels) / 255 - mean) / std).permute(2, 0, 1)[None]

    def resized(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        return functional.interpolate(image, size, mode="bilinear", align_corners=False)

    def sides(self, size: tuple[int, int]) -> list[int]:
        return [0, CONFIG.image_size[1] - size[1], 0, CONFIG.image_size[0] - size[0]]

    def anchors(self) -> Tensor:
        rows, size = [], CONFIG.image_size
        for level in CONFIG.levels:
            down, across = (side / -(-side // 2**level) for side in size)
            for y in np.arange(down / 2, size[0], down):
                for x in np.arange(across / 2, size[1], across):
                    for octave in range(CONFIG.num_scales):
                        for aspect in CONFIG.aspect_ratios:
                            half = CONFIG.anchor_scale * 2 ** (octave / CONFIG.num_scales) / 2
                            dy, dx = half * down / aspect**0.5, half * across * aspect**0.5
                            rows.append([y - dy, x - dx, y + dy, x + dx])
        return torch.tensor(rows)

    def boxes(self, codes: Tensor, anchors: Tensor) -> Tensor:
        sides, centres = anchors[:, 2:] - anchors[:, :2], (anchors[:, 2:] + anchors[:, :2]) / 2
        middle, half = codes[:, :2] * sides + centres, codes[:, 2:].exp() * sides / 2
        return torch.cat([middle - half, middle + half], 1)

    def detections(self, outputs: Outputs) -> OfficialDetections:
        """Soft-NMS one class after another, from the paper."""
        logits = flatten_levels(outputs.class_logits, CONFIG.num_classes)[0]
        best = logits.flatten().sort(descending=True, stable=True).indices[:5000]
        places, labels = best // CONFIG.num_classes, (best % CONFIG.num_classes).numpy()
        boxes = PlainPort().boxes(flatten_levels(outputs.box_codes, 4)[0][places], outputs.anchors[places]).numpy()
        scores = logits.sigmoid().flatten()[best].numpy().copy()
        rows = []
        for label in range(CONFIG.num_classes):
            left = np.flatnonzero((labels == label) & (scores > 0.001))
            while len(left):
                first = left[np.argmax(scores[left])]
                rows.append((first, float(scores[first])))
                left = left[left != first]
                scores[left] *= np.exp(-(_overlaps(boxes[left], boxes[first]) ** 2) / 0.5)
                left = left[scores[left] > 0.001]
        rows.sort(key=lambda row: -row[1])
        chosen, kept = (np.array(column) for column in zip(*rows[:100], strict=True))
        scale = np.float32(outputs.scale)
        return OfficialDetections(boxes[chosen] * scale, kept.astype(np.float32), labels[chosen] + 1)


def _overlaps(boxes: NDArray[np.float32], box: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
    shared = np.clip(high - low, 0, None).prod(1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - shared
    found: NDArray[np.float32] = shared / area
    return found


def compared(port: Stages, known: list[Change] | None = None) -> StageComparison:
    return compare_stages(port, CONFIG, heads, ENCODED, "drawn", known or [])


def with_stage(name: str, function: Callable[..., Any]) -> Stages:
    port = PlainPort()
    setattr(port, name, function)
    return port


def ours(stages: OwnStages, name: str) -> Stages:
    """The plain port with one stage of effconv's own, changed."""
    return with_stage(name, getattr(stages, name))


def detecting(**steps: Any) -> Stages:
    return ours(OWN.post(**steps), "detections")


def otherwise(name: str, function: Callable[[Any], Any]) -> Stages:
    """The plain port with what one of its functions gives changed."""
    right = getattr(PlainPort(), name)
    return with_stage(name, lambda *given: function(right(*given)))


def cut_off(boxes: Tensor) -> Tensor:
    return torch.minimum(boxes.clamp(min=0), torch.tensor([*CONFIG.image_size] * 2))


def exchanged(boxes: Tensor) -> Tensor:
    return boxes[:, [1, 0, 3, 2]]


def clamped(codes: Tensor, anchors: Tensor) -> Tensor:
    return PlainPort().boxes(codes.clamp(max=4.135), anchors)


def nearest(image: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(image, size, mode="nearest")


def antialiased(image: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(image, size, mode="bilinear", antialias=True)


def shifted(detections: OfficialDetections) -> OfficialDetections:
    return detections._replace(boxes=detections.boxes[:, [1, 0, 3, 2]])
