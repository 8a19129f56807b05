"""A detector as a program of `torch.export` (.pt2): normalising where asked, the network, decoding and suppression.

Suppression is that of `onnx_detector`, in steps: the best pair of anchor and class that is left is kept, and all of its
class that overlap it are dropped, until none is left or there are enough. It is one loop of the program.
"""

import io
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._higher_order_ops import while_loop

from ..model import EfficientDet
from .onnx_detector import OVERLAP, Decoded, Detecting

# Pairs of each image that suppression looks at, as many as the official evaluation does. Where fewer objects are found
# than there is room for although more pairs are above the threshold, those beyond are not seen.
CANDIDATES = 5000


class Detector(nn.Module):
    """Images as `detecting` has them to {"boxes", "scores", "categories", "count"}, as the ONNX detector has them."""

    def __init__(self, model: EfficientDet, detecting: Detecting):
        super().__init__()
        self.decoded = Decoded(model, detecting)
        self.detecting = detecting

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        boxes, scores = self.decoded(images)  # (B, N, 4), (B, C, N)
        anchors = scores.shape[2]
        best, pairs = scores.flatten(1).topk(min(CANDIDATES, scores.shape[1] * anchors))
        classes = pairs // anchors
        boxes = torch.gather(boxes, 1, (pairs % anchors)[..., None].expand(-1, -1, 4))
        rows, found = self._kept(boxes, classes, best > self.detecting.score_threshold)
        edges = boxes.new_tensor([*self.detecting.size, *self.detecting.size])
        inside = torch.minimum(torch.gather(boxes, 1, rows[..., None].expand(-1, -1, 4)).clamp(min=0), edges)
        return {
            "boxes": torch.where(found[..., None], inside, 0.0),
            "scores": torch.where(found, torch.gather(best, 1, rows), 0.0),
            "categories": torch.where(found, torch.gather(classes, 1, rows) + 1, 0),
            "count": found.sum(1),
        }

    def _kept(self, boxes: Tensor, classes: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        """(places of the pairs that are kept, whether there is one), both (B, M), of K pairs, the best first.

        `left` (B, K) are those of a score high enough.
        """
        areas = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
        most = self.detecting.max_outputs

        def goes_on(step: Tensor, left: Tensor, kept: Tensor, found: Tensor) -> Tensor:
            return (step < most) & left.any()

        def keep(step: Tensor, left: Tensor, kept: Tensor, found: Tensor) -> tuple[Tensor, ...]:
            first = left.int().argmax(1, keepdim=True)  # the first of those that are left
            box = torch.gather(boxes, 1, first[..., None].expand(-1, -1, 4))
            sides = torch.minimum(boxes[..., 2:], box[..., 2:]) - torch.maximum(boxes[..., :2], box[..., :2])
            common = sides.clamp(min=0).prod(-1)
            together = areas + torch.gather(areas, 1, first) - common
            dropped = (classes == torch.gather(classes, 1, first)) & (common / together > OVERLAP)
            place = step.expand(left.shape[0], 1)
            kept = kept.scatter(1, place, first)
            found = found.scatter(1, place, torch.gather(left, 1, first))
            return step + 1, (left & ~dropped).scatter(1, first, False), kept, found

        kept = torch.zeros(left.shape[0], most, dtype=torch.int64)
        start = torch.zeros((), dtype=torch.int64), left, kept, kept.bool()
        _, _, kept, found = while_loop(goes_on, keep, start)  # type: ignore[no-untyped-call]
        return kept, found


def export_program(network: nn.Module, path: Path, detecting: Detecting, described: dict[str, str]) -> None:
    """Write a network, a Detector or the fast form of a model, to `path` as a program of any number of images.

    Images are as `detecting` has them; `described` are files (name -> text) that the program has in it.
    """
    shape = (*detecting.size, 3) if detecting.pixels else (3, *detecting.size)
    images = torch.zeros(2, *shape, dtype=torch.uint8 if detecting.pixels else torch.float32)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own, about its own parts
        program = torch.export.export(
            network.eval(), (images,), dynamic_shapes={"images": {0: torch.export.Dim("batch")}}
        )
        content = io.BytesIO()  # a file would have to be named .pt2, and has another name until it is whole
        torch.export.save(program, content, extra_files=described)
    path.write_bytes(content.getvalue())


def load_program(path: Path) -> Any:
    """The program as a function of images. Raises as `torch.export.load` does.

    A program is code: to load one is to run what is in it, so it must come from somebody who is trusted.
    """
    return torch.export.load(io.BytesIO(path.read_bytes())).module()
