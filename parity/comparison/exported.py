"""An exported detector beside the model it was made from: the same objects on pictures, by a runtime of its own."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...effdet_torch.config import Config
from ...effdet_torch.engines.onnx_detector import OUTPUTS, Detecting, pixel_constants
from ...effdet_torch.engines.onnx_export import INPUT
from ...effdet_torch.model import EfficientDet
from ...effdet_torch.postprocessing.detections import Detections
from ...effdet_torch.postprocessing.postprocess import clip_boxes, combined
from ...effdet_torch.preprocessing.preprocess import Preprocessor
from ...errors import EffconvError
from ..plain import Plain
from ..traces.images import drawn

# float32 of two programs: a coordinate of up to 1536 pixels is rounded to 6e-5, a score to 6e-8, and outputs before
# them by what sums of a thousand products may lose. They refuse another overlap, threshold, class order or box code.
# A box that is larger than the image, where boxes are not clipped, is so by the exponential of its code, which makes
# the code's rounding larger in proportion: so many times PIXELS are allowed.
PIXELS, SCORES = 1e-3, 1e-5
DRAWN = ((200, 300), (300, 200), (256, 256), (90, 120))  # height, width of pictures where none are given


@dataclass(frozen=True, kw_only=True)
class ExportCheck(Plain):
    """What came of running an exported detector."""

    runtime: str
    images: int
    objects: int  # that the model finds on them
    missing: int  # of those, not found by the file
    added: int  # found by the file alone
    largest_box_difference: float  # pixels, of objects that both find
    largest_score_difference: float
    ok: bool


def check_exported(graph: Path, model: EfficientDet, detecting: Detecting, pictures: Sequence[bytes]) -> ExportCheck:
    """Run an ONNX detector by onnxruntime on encoded pictures; drawn ones where there are none.

    Raises EffconvError when onnxruntime is not installed, and ImageError for a picture that cannot be decoded.
    """
    session, runtime = onnx_session(graph)
    return check_found(lambda images: found_by_graph(session, images), runtime, model, detecting, pictures)


def onnx_session(graph: Path) -> tuple[Any, str]:
    """A graph ready to run, and the runtime's name. Raises EffconvError when onnxruntime is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise EffconvError(
            "onnxruntime, which runs the exported file, is not installed: pip install onnxruntime"
        ) from error
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    return session, f"onnxruntime {onnxruntime.__version__}"


def found_by_graph(session: Any, images: NDArray[Any]) -> Detections:
    """What an ONNX detector finds on images as it takes them."""
    return Detections(*(torch.from_numpy(each) for each in session.run(list(OUTPUTS), {INPUT: images})))


def check_found(
    find: Callable[[NDArray[Any]], Detections],
    runtime: str,
    model: EfficientDet,
    detecting: Detecting,
    pictures: Sequence[bytes],
    clip: Callable[[Tensor, tuple[int, int]], Tensor] = clip_boxes,
) -> ExportCheck:
    """What a file finds on encoded pictures, drawn ones where there are none, beside what the model finds.

    `find` runs the file on images as `detecting` has them; `clip` is what it does to boxes beyond the edges.
    Raises ImageError for a picture that cannot be decoded.
    """
    images = given_images(model.config, detecting, pictures)
    return compared(found_by_model(model, detecting, images, clip), find(images), detecting, runtime)


def given_images(config: Config, detecting: Detecting, pictures: Sequence[bytes]) -> NDArray[Any]:
    """Encoded pictures, drawn ones where there are none, as a file of `detecting` takes them: a batch."""
    config = dataclasses.replace(config, image_size=detecting.size)
    pictures = pictures or [drawn(seed, size) for seed, size in enumerate(DRAWN)]
    return np.stack([_given(encoded, config, detecting) for encoded in pictures])


def found_by_model(
    model: EfficientDet,
    detecting: Detecting,
    images: NDArray[Any],
    clip: Callable[[Tensor, tuple[int, int]], Tensor] = clip_boxes,
) -> Detections:
    """What the model finds on images as `detecting` has them, suppressed as its file does it."""
    config = dataclasses.replace(model.config, image_size=detecting.size)
    steps = combined(config, detecting.score_threshold, detecting.max_outputs)
    return dataclasses.replace(steps, clip=clip)(*outputs_of_model(model, detecting, images))


def outputs_of_model(
    model: EfficientDet, detecting: Detecting, images: NDArray[Any]
) -> tuple[list[Tensor], list[Tensor]]:
    """The model's class logits and box codes by level, of images as `detecting` has them."""
    normalised = _normalised(images, model.config) if detecting.pixels else torch.from_numpy(images)
    with torch.inference_mode():
        logits, codes = model(normalised)
    return list(logits), list(codes)


def compared(ours: Detections, theirs: Detections, detecting: Detecting, runtime: str) -> ExportCheck:
    """Objects of both, paired by category, box and score.

    One that only one side has counts unless its score is at the threshold, or at the last that there was room for.
    """
    pixels = scores = 0.0
    missing = added = objects = 0
    for image in range(len(ours.valid)):
        mine, other = (_rows(each, image) for each in (ours, theirs))
        objects += len(mine)
        left = list(range(len(other)))
        edge = max(detecting.score_threshold, mine[-1, 4] if len(mine) == detecting.max_outputs else 0.0)
        for row in mine:
            fits = [each for each in left if _same(row, other[each], detecting.size)]
            if not fits:
                missing += abs(row[4] - edge) > SCORES
                continue
            pair = min(fits, key=lambda each: float(np.abs(row - other[each]).max()))
            left.remove(pair)
            pixels = max(pixels, float(np.abs(row - other[pair])[:4].max()))
            scores = max(scores, float(abs(row[4] - other[pair, 4])))
        added += sum(abs(other[each, 4] - edge) > SCORES for each in left)
    return ExportCheck(
        runtime=runtime,
        images=len(ours.valid),
        objects=objects,
        missing=int(missing),
        added=int(added),
        largest_box_difference=pixels,
        largest_score_difference=scores,
        ok=not (missing or added),
    )


def check_line(check: ExportCheck) -> str:
    """The check in a line."""
    where = f"{check.images} pictures by {check.runtime}"
    if not check.ok:
        wrong = f"the file misses {check.missing} and adds {check.added}"
        return f"not the model: of {check.objects} objects on {where} {wrong}"
    if not check.objects:
        return f"not proven: the model finds no object on {where}; name pictures that it finds some on"
    return (
        f"all {check.objects} objects on {where} are the model's: boxes to {check.largest_box_difference:.0e} pixels, "
        f"scores to {check.largest_score_difference:.0e}"
    )


def _rows(detections: Detections, image: int) -> NDArray[np.float64]:
    """(N, 6) [ymin, xmin, ymax, xmax, score, category] of an image."""
    count = int(detections.valid[image])
    columns: list[Any] = [detections.boxes[image, :count], detections.scores[image, :count, None]]
    columns.append(detections.classes[image, :count, None])
    rows: NDArray[np.float64] = torch.cat([column.double() for column in columns], 1).numpy()
    return rows


def _same(one: NDArray[np.float64], other: NDArray[np.float64], size: tuple[int, int]) -> bool:
    """Whether two rows are of one object; `size` (height, width) is the input's."""
    apart, larger = np.abs(one - other), float(max(one[2:4] - one[:2])) / max(size)
    allowed = PIXELS * max(1.0, larger)
    return bool(one[5] == other[5] and apart[:4].max() <= allowed and apart[4] <= SCORES)


def _given(encoded: bytes, config: Config, detecting: Detecting) -> NDArray[Any]:
    """A picture as the file takes it."""
    image, _ = Preprocessor(config)(encoded)
    return as_pixels(image, config) if detecting.pixels else image


def as_pixels(image: NDArray[np.float32], config: Config) -> NDArray[np.uint8]:
    """Normalised images (..., 3, H, W) as RGB pixels (..., H, W, 3), rounded to whole numbers."""
    mean, std = (each.numpy() for each in pixel_constants(config))
    pixels: NDArray[np.uint8] = np.rint(np.moveaxis(image, -3, -1) * std + mean).clip(0, 255).astype(np.uint8)
    return pixels


def _normalised(pixels: NDArray[np.uint8], config: Config) -> Tensor:
    mean, std = pixel_constants(config)
    return ((torch.from_numpy(pixels).float() - mean) / std).permute(0, 3, 1, 2)
