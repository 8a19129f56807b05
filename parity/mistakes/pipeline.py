"""Setups that differ from the official evaluation as ports do, outside the network: input, decoding, category ids."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...effdet_torch.model import EfficientDet
from ...effdet_torch.postprocessing.anchors import decode_boxes
from ...effdet_torch.postprocessing.postprocess import clip_boxes
from ...effdet_torch.preprocessing.preprocess import Preprocessor, normalisation
from ...effdet_torch.preprocessing.resize import Normalise, Pixels, Planes, resize_bilinear
from ..datasets.dataset import Dataset
from ..evaluation.coco import Rows
from ..evaluation.pipeline import Pipeline

LARGEST_SIZE_CODE = 4.135166556742356  # log(1000 / 16): Detectron's and torchvision's limit
Categories = Callable[[Rows, Dataset], Rows]


def as_they_are(rows: Rows, dataset: Dataset) -> Rows:
    """Category ids as the model gives them, channel + 1."""
    return rows


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is evaluated: a model, the steps around it, and what is made of its category ids."""

    model: EfficientDet
    pipeline: Pipeline
    categories: Categories = as_they_are
    raw: EfficientDet | None = None  # the model with the weights beside the moving averages, where there are both


def with_raw_weights(setup: Setup) -> Setup:
    """The setup with the weights as training left them, not their moving averages."""
    assert setup.raw is not None  # `ablation/registry.fitting` leaves it out
    return dataclasses.replace(setup, model=setup.raw)


def with_input(setup: Setup, preprocess: Preprocessor) -> Setup:
    """The setup with another preprocessor."""
    return dataclasses.replace(setup, pipeline=setup.pipeline._replace(preprocess=preprocess))


def resized_to(factor: float) -> Callable[[Setup], Setup]:
    """The input's sides times `factor`, in multiples of the largest stride; of 8 pixels where that is coarse."""

    def apply(setup: Setup) -> Setup:
        config = setup.pipeline.config
        stride = 2**config.max_level if min(config.image_size) >= 2 ** (config.max_level + 2) else 8
        height, width = (max(stride, round(side * factor / stride) * stride) for side in config.image_size)
        config = dataclasses.replace(config, image_size=(height, width))
        pipeline = setup.pipeline._replace(
            config=config,
            preprocess=dataclasses.replace(setup.pipeline.preprocess, config=config),
            postprocess=dataclasses.replace(setup.pipeline.postprocess, config=config),
        )
        return dataclasses.replace(setup, pipeline=pipeline)

    return apply


class BlackPadding(Preprocessor):
    """Pads before it normalises: with black, not the mean colour. AdvProp models do so officially."""

    def __call__(self, encoded: bytes, *, name: str = "image") -> tuple[NDArray[np.float32], np.float32]:
        image, scale = super().__call__(encoded, name=name)
        if self.config.unit_range:
            return image, scale
        height, width = (int(side / scale + 0.5) for side in self.decode(encoded, name=name).shape[:2])
        black = normalisation(self.config)(np.zeros((1, 1, 3), np.uint8))
        image[:, height:, :] = black
        image[:, :, width:] = black
        return image, scale


def padded_black(setup: Setup) -> Setup:
    """The setup with padding made before normalising."""
    given = setup.pipeline.preprocess
    return with_input(setup, BlackPadding(given.config, given.size, given.decode, given.resize))


def resize_rounded(pixels: Pixels, normalise: Normalise, out: Planes) -> None:
    """Resized as officially, but before it is normalised, and so rounded to whole grey levels."""
    plain = np.empty_like(out)
    resize_bilinear(pixels, lambda given: np.ascontiguousarray(given.transpose(2, 0, 1)).astype(np.float32), plain)
    out[...] = normalise(plain.round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def decode_clamped(codes: Tensor, anchors: Tensor) -> Tensor:
    """Boxes of codes whose sizes are limited."""
    limited = torch.cat([codes[..., :2], codes[..., 2:].clamp(max=LARGEST_SIZE_CODE)], -1)
    return decode_boxes(limited, anchors)


def clipped_first(setup: Setup) -> Setup:
    """The setup in which boxes are clipped to the input before they suppress one another."""
    size = setup.pipeline.config.image_size
    steps = dataclasses.replace(
        setup.pipeline.postprocess, decode=lambda codes, anchors: clip_boxes(decode_boxes(codes, anchors), size)
    )
    return dataclasses.replace(setup, pipeline=setup.pipeline._replace(postprocess=steps))


def contiguous(rows: Rows, dataset: Dataset) -> Rows:
    """Channel c taken for the dataset's c-th category: ports that number COCO's 80 categories without gaps."""
    ids = sorted(dataset.categories)
    known = rows[rows[:, 6] <= len(ids)].copy()
    known[:, 6] = np.array([0, *ids], np.float64)[known[:, 6].astype(int)]
    return known


def off_by_one(rows: Rows, dataset: Dataset) -> Rows:
    """Channel c taken for category c, as if the first were the background."""
    other = rows.copy()
    other[:, 6] -= 1
    return other
