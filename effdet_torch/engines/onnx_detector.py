"""A detector as one ONNX graph: normalising where asked, the network, decoding and suppression, in standard operations.

Suppression is the official `combined` one, as `postprocess.combined` computes it: within classes, hard, overlap 0.5,
and then boxes are cut off at the edges. It is ONNX's NonMaxSuppression, which onnxruntime, OpenVINO and TensorRT have.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..config import Config
from ..model import EfficientDet
from ..postprocessing.candidates import flatten_levels
from ..postprocessing.postprocess import combined
from .fast import fast
from .onnx_export import exported, write_graph

OVERLAP = 0.5  # as `nms.Combined` has it
OUTPUTS = ("boxes", "scores", "categories", "count")


class Detecting(NamedTuple):
    """What a graph takes, and what it drops."""

    size: tuple[int, int]  # height, width of its images
    pixels: bool = False  # images are (B, H, W, 3) uint8, and normalised inside; otherwise (B, 3, H, W) float32 as such
    score_threshold: float = 0.05
    max_outputs: int = 100  # of an image


def export_detector(model: EfficientDet, path: Path, detecting: Detecting) -> None:
    """Write `model` to `path` as a graph of `images` to OUTPUTS, for any number B of images.

    boxes (B, M, 4) float32 are [ymin, xmin, ymax, xmax] in input pixels, scores (B, M) float32, categories (B, M) int64
    the model's ids from 1, count (B,) int64 how many of the M rows are objects; the others are zero.
    Raises EffconvError as `onnx_export.exported` does.
    """
    shape = (*detecting.size, 3) if detecting.pixels else (3, *detecting.size)
    images = torch.zeros(2, *shape, dtype=torch.uint8 if detecting.pixels else torch.float32)
    graph = exported(Decoded(model, detecting), images, ["all_boxes", "all_scores"])
    _suppress(graph, detecting)
    limits = {"score_threshold": detecting.score_threshold, "max_detections": detecting.max_outputs}
    write_graph(graph, model, path, {name: str(value) for name, value in limits.items()})


class Decoded(nn.Module):
    """Images to every anchor's box (B, N, 4) and its scores by class (B, C, N)."""

    def __init__(self, model: EfficientDet, detecting: Detecting):
        super().__init__()
        config = model.config
        self.network = fast(model).to("cpu", torch.float32)
        self.steps = combined(dataclasses.replace(config, image_size=detecting.size))
        self.classes, self.pixels = config.num_classes, detecting.pixels
        self.mean, self.std = pixel_constants(config)
        self.anchors = self.steps.anchors(self.steps.config)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.pixels:
            images = ((images.float() - self.mean) / self.std).permute(0, 3, 1, 2)
        logits, codes = self.network(images)
        flat = flatten_levels(codes, 4)
        boxes = self.steps.decode(flat, self.anchors.expand(flat.shape))
        return boxes, flatten_levels(logits, self.classes).sigmoid().permute(0, 2, 1)


def pixel_constants(config: Config) -> tuple[Tensor, Tensor]:
    """(mean, standard deviation) by channel of pixels 0 to 255, which normalise them as the model expects."""
    mean, std = ((127.5,) * 3, (127.5,) * 3) if config.unit_range else (config.mean, config.std)
    return torch.tensor(mean), torch.tensor(std)


def _suppress(graph: Any, detecting: Detecting) -> None:
    """Append suppression to a graph of `all_boxes` and `all_scores`, whose outputs it takes the place of."""
    from onnx import TensorProto, helper, numpy_helper

    most = detecting.max_outputs

    def constant(name: str, value: Any) -> str:
        graph.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(operation: str, inputs: list[str], outputs: list[str], **attributes: Any) -> str:
        graph.graph.node.append(helper.make_node(operation, inputs, outputs, f"suppress/{outputs[0]}", **attributes))
        return outputs[0]

    zero, one = constant("zero", np.int64(0)), constant("one", np.int64(1))
    limits = [
        constant("most", np.array([most], np.int64)),
        constant("overlap", np.array([OVERLAP], np.float32)),
        constant("least_score", np.array([detecting.score_threshold], np.float32)),
    ]
    # Rows [image, class, anchor], of all images.
    kept = add("NonMaxSuppression", ["all_boxes", "all_scores", *limits], ["kept"])
    kept_scores = add("GatherND", ["all_scores", kept], ["kept_scores"])
    # So many rows of no score after them that every image has `most` to choose from.
    rows = add("Concat", [kept, constant("no_rows", np.zeros((most, 3), np.int64))], ["rows"], axis=0)
    none = constant("no_scores", np.full(most, -1, np.float32))
    row_scores = add("Concat", [kept_scores, none], ["row_scores"], axis=0)
    image_of = add("Gather", [rows, zero], ["image_of"], axis=1)
    batch = add("Gather", [add("Shape", ["all_scores"], ["shape"]), zero], ["batch"], axis=0)
    images = add("Range", [zero, batch, one], ["image_numbers"])
    columns = add("Unsqueeze", [images, constant("last_axis", np.array([1], np.int64))], ["image_columns"])
    own = add("Equal", [image_of, columns], ["own"])  # (B, rows)
    masked = add("Where", [own, row_scores, constant("no_score", np.float32(-1))], ["masked"])
    add("TopK", [masked, "most"], ["best_scores", "best"], axis=1, largest=1, sorted=1)
    found = add("Greater", ["best_scores", constant("nothing", np.float32(0))], ["found"])
    best_rows = add("Gather", [rows, "best"], ["best_rows"], axis=0)  # (B, most, 3)
    anchor_of = add("Gather", [best_rows, constant("anchor", np.array([2], np.int64))], ["anchor_of"], axis=2)
    best_boxes = add("GatherND", ["all_boxes", anchor_of], ["best_boxes"], batch_dims=1)
    class_of = add("Gather", [best_rows, one], ["class_of"], axis=2)
    categories = add("Add", [class_of, one], ["best_categories"])
    wide = add("Unsqueeze", [found, constant("box_axis", np.array([2], np.int64))], ["found_wide"])
    nothing = constant("nothing_there", np.float32(0))
    edges = constant("edges", np.array([*detecting.size, *detecting.size], np.float32))
    inside = add("Min", [add("Max", [best_boxes, nothing], ["positive_boxes"]), edges], ["inside"])
    add("Where", [wide, inside, nothing], ["boxes"])
    add("Where", [found, "best_scores", nothing], ["scores"])
    add("Where", [found, categories, zero], ["categories"])
    counted = add("Cast", [found], ["counted"], to=TensorProto.INT64)
    add("ReduceSum", [counted, "last_axis"], ["count"], keepdims=0)
    shapes = {"boxes": ["batch", most, 4], "scores": ["batch", most], "categories": ["batch", most], "count": ["batch"]}
    whole = {"categories", "count"}
    del graph.graph.output[:]
    graph.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.INT64 if name in whole else TensorProto.FLOAT, shapes[name])
        for name in OUTPUTS
    )
