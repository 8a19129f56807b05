"""Ablations that take a value: any score threshold, any anchors."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...effdet_torch.config import Config
from ...effdet_torch.postprocessing.anchors import official_anchors
from ...effdet_torch.postprocessing.nms import PerClass
from ...effdet_torch.postprocessing.suppression import Gaussian
from ...errors import EffconvError
from ..evaluation.pipeline import ANCHORS
from ..mistakes.pipeline import Setup
from .registry import Ablation

SHAPE = ("aspect_ratios", "num_scales", "anchor_scale")  # of a Config: what anchors are made from
LARGEST_FILE = 64 << 20  # bytes
EXPECTED = 'expected {"aspect_ratios": [1.0, 2.0, 0.5], "num_scales": 3, "anchor_scale": 4.0} or {"boxes": [...]}'


def min_score(threshold: float) -> Ablation:
    """Detections of a score of `threshold`, from 0 to 1, or less dropped."""
    if not 0 <= threshold <= 1:
        raise EffconvError(f"expected a score from 0 to 1, found {threshold}", parameters={"min_score": None})
    steps = {"nms": PerClass(Gaussian(score_threshold=threshold))}
    return Ablation(
        f"min-score-{threshold:g}", "decode", f"detections scored {threshold:g} or less dropped", _replacing(steps)
    )


def anchors_of(choice: str) -> Ablation:
    """Anchors by name ("official", "legacy") or from a JSON file.

    The file holds some of SHAPE, as a model's configuration does, or "boxes": every anchor as [ymin, xmin, ymax, xmax]
    in input pixels, in the order of `anchors.official_anchors`. Raises EffconvError for anything else.
    """
    if choice in ANCHORS:
        return Ablation(f"anchors-{choice}", "decode", f"{choice} anchors", _replacing({"anchors": ANCHORS[choice]}))
    path = Path(choice)
    values = _read(path)

    def make(config: Config) -> Tensor:
        expected = official_anchors(config)
        if "boxes" in values:
            found = torch.from_numpy(np.array(values["boxes"], np.float32))
        else:
            found = official_anchors(dataclasses.replace(config, **values))
        if found.shape != expected.shape:
            raise EffconvError(f"{path}: {len(found)} anchors, but {config.name} predicts {len(expected)} boxes")
        return found

    return Ablation(f"anchors-{path.stem}", "decode", f"anchors of {path.name}", _replacing({"anchors": make}))


def _replacing(steps: dict[str, Any]) -> Any:
    def apply(setup: Setup) -> Setup:
        postprocess = dataclasses.replace(setup.pipeline.postprocess, **steps)
        return dataclasses.replace(setup, pipeline=setup.pipeline._replace(postprocess=postprocess))

    return apply


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise EffconvError(f"{path}: larger than {LARGEST_FILE >> 20} MB; {EXPECTED}")
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise EffconvError(
            f"anchors {path}: neither official nor legacy, nor a file ({error.strerror})", parameters={"anchors": None}
        ) from error
    except (ValueError, RecursionError) as error:
        raise EffconvError(f"{path}: not JSON ({error})") from error
    names = set(values) if isinstance(values, dict) else set()
    if not names or not (names == {"boxes"} or names <= set(SHAPE)):
        raise EffconvError(f"{path}: {EXPECTED}")
    try:
        if "boxes" in values:
            boxes = np.array(values["boxes"], np.float32)
            good = boxes.ndim == 2 and boxes.shape[1] == 4 and bool((boxes[:, 2:] > boxes[:, :2]).all())
            good = good and bool(np.isfinite(boxes).all())
        else:
            numbers = np.array([*values.get("aspect_ratios", [1.0]), values.get("anchor_scale", 1.0)], np.float64)
            count = values.get("num_scales", 1)
            good = bool((np.isfinite(numbers) & (numbers > 0)).all()) and type(count) is int and 1 <= count <= 100
            values = {name: tuple(each) if name == "aspect_ratios" else each for name, each in values.items()}
    except (ValueError, TypeError) as error:
        raise EffconvError(f"{path}: {EXPECTED} ({error})") from error
    if not good:
        raise EffconvError(f"{path}: sides, ratios and counts must be positive and finite; {EXPECTED}")
    return values  # type: ignore[no-any-return]
