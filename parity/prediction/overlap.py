"""Image files -> drawn pictures: threads read ahead of the network and draw what it has found, in the images' order."""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...effdet_torch.drawing import draw
from ...effdet_torch.network import Network
from ...effdet_torch.orientation import upright_boxes, upright_pixels
from ...effdet_torch.predict import predict_inputs
from ...effdet_torch.prediction import Prediction
from ...effdet_torch.preprocessing.decode import read_encoded
from ...effdet_torch.preprocessing.header import exif_orientation
from ...effdet_torch.preprocessing.preprocess import Preprocessor
from ...errors import ImageError
from ..evaluation.pipeline import Pipeline
from ..pictures import write_picture
from .image_files import JPEG_ENDINGS
from .in_order import in_order

JPEG_QUALITY = 92


class Predicted(NamedTuple):
    """One image, and the objects found in it."""

    id: int  # its place among all images given, from 1
    image: Path
    drawing: Path
    height: int
    width: int
    prediction: Prediction
    orientation: int  # EXIF's, which the network ignores and the drawing does not; 1 is upright
    not_finite: int  # objects found besides, whose boxes or scores are not finite


class _Job(NamedTuple):
    id: int
    image: Path
    drawing: Path


class _Ready(NamedTuple):
    """An image for the network, and its pixels for the drawing."""

    job: _Job
    # The decoder's own pixels, not the picture as a viewer would turn it: those are what boxes refer to. To be drawn,
    # both are turned upright.
    pixels: NDArray[np.uint8]
    orientation: int
    inputs: Tensor  # (1, 3, H, W)
    scale: Tensor  # (1,)


def predictions(
    model: Network,
    pipeline: Pipeline,
    images: Sequence[Path],
    drawings: Sequence[Path],
    min_score: float,
    hide_below: float,
    workers: int,
    strict: bool,
) -> Generator[Predicted | ImageError, None, None]:
    """Each image's objects of `min_score` and above, or why it cannot be read, in order; drawn from `hide_below` up.

    While the network runs on one image, `workers` threads read as many ahead, and draw and write as many of those
    before it: twice so many images are in memory, and one more. With 0 it is one. A strict run raises the ImageError
    of the first that cannot be read, when all before it are drawn. Close what is returned to begin nothing more.
    """

    def read(job: _Job) -> _Ready | ImageError:
        return _read(job, pipeline.preprocess)

    def found() -> Iterator[tuple[_Ready, Prediction] | ImageError]:
        jobs = map(_Job, range(1, len(images) + 1), images, drawings)
        for ready in in_order(read, jobs, threads, workers):
            if not isinstance(ready, ImageError):
                yield ready, predict_inputs(model, ready.inputs, ready.scale, pipeline.postprocess)[0]
            elif strict:
                raise ready
            else:
                yield ready

    def finish(result: tuple[_Ready, Prediction] | ImageError) -> Predicted | ImageError:
        return result if isinstance(result, ImageError) else _drawn(*result, min_score, hide_below)

    threads = ThreadPoolExecutor(workers) if workers else None
    try:
        yield from in_order(finish, found(), threads, workers)
    finally:
        if threads:
            threads.shutdown(cancel_futures=True)  # after an error or an interruption nothing more is begun


def _read(job: _Job, preprocess: Preprocessor) -> _Ready | ImageError:
    name = str(job.image)
    try:
        encoded = read_encoded(job.image)
        pixels = preprocess.decode(encoded, name=name)
        inputs, scale = preprocess.of_pixels(pixels, name=name)
    except ImageError as error:
        return error
    return _Ready(job, pixels, exif_orientation(encoded), torch.from_numpy(inputs)[None], torch.tensor([float(scale)]))


def _drawn(ready: _Ready, prediction: Prediction, min_score: float, hide_below: float) -> Predicted:
    finite = prediction.finite()
    not_finite = len(prediction.scores) - len(finite.scores)
    prediction = finite.above(min_score)
    height, width = ready.pixels.shape[:2]
    shown = prediction.above(hide_below)
    shown = replace(shown, boxes=upright_boxes(shown.boxes, ready.orientation, height, width))
    picture, drawing = draw(upright_pixels(ready.pixels, ready.orientation), shown), ready.job.drawing
    if drawing.suffix.lower() in JPEG_ENDINGS:
        write_picture(picture, drawing, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    else:
        write_picture(picture, drawing, "PNG")
    return Predicted(*ready.job, height, width, prediction, ready.orientation, not_finite)
