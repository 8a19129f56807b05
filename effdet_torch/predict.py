"""Image files -> objects in them, as the official evaluation finds them: what `EfficientDet.predict` does."""

import itertools
import os
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any, Union

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ImageError
from .categories import category_name
from .config import Config
from .network import Network
from .postprocessing.detections import Detections, found
from .postprocessing.postprocess import Postprocessor, per_class
from .prediction import Prediction
from .preprocessing.decode import read_encoded
from .preprocessing.preprocess import Preprocessor

if TYPE_CHECKING:
    from PIL.Image import Image

# A path, an encoded image, a file open for reading bytes, or an image in memory: (H, W, 3) uint8 RGB, (3, H, W) as a
# tensor, or Pillow's.
Source = Union[bytes, str, os.PathLike[str], IO[bytes], NDArray[np.uint8], Tensor, "Image"]


def predict(
    model: Network,
    sources: Iterable[Source],
    *,
    preprocess: Preprocessor | None = None,
    postprocess: Postprocessor | None = None,
    batch: int = 1,
    min_score: float = 0.0,
) -> list[Prediction]:
    """One Prediction per source, in their order; the network runs `batch` images at once, where and in what it is.

    Objects below `min_score` are left out.

    Without `preprocess` and `postprocess` everything is done as in the official evaluation: up to 100 objects per image
    after soft-NMS, boxes not clipped. Give both to use another input size. An image's figures may differ in the last
    bits between batch sizes. Raises ImageError for what cannot be read, ValueError for a model that is in training
    mode or a single path in place of a list, PostprocessError for outputs that are NaN or infinite.
    """
    if isinstance(sources, str | bytes | os.PathLike | np.ndarray | Tensor) or hasattr(sources, "convert"):
        raise ValueError("predict takes a list of images: predict([image])")
    if batch < 1:
        raise ValueError(f"batch must be at least 1, found {batch}")
    if model.training:
        raise ValueError("the model is in training mode, where it normalises by the batch: call model.eval() first")
    preprocess = preprocess or Preprocessor(model.config)
    postprocess = postprocess or per_class(model.config)
    predictions: list[Prediction] = []
    numbered = enumerate(sources)
    while part := list(itertools.islice(numbered, batch)):
        inputs = [_read(source, place, preprocess) for place, source in part]
        images, scales = torch.stack([image for image, _ in inputs]), torch.tensor([scale for _, scale in inputs])
        predictions += [each.above(min_score) for each in predict_inputs(model, images, scales, postprocess)]
    return predictions


def predict_inputs(model: Network, images: Tensor, scales: Tensor, postprocess: Postprocessor) -> list[Prediction]:
    """One Prediction for each of `images` (B, 3, H, W), which are preprocessed, with `scales` (B,), both on the CPU."""
    weight = next(model.parameters())
    with torch.inference_mode():
        logits, codes = model(images.to(weight.device, weight.dtype))
        logits, codes = ([level.float() for level in kind] for kind in (logits, codes))
        detections = postprocess(logits, codes, scales.to(weight.device))
    # Copies, because tensors made in inference mode may not be used in training.
    return [_prediction(detections, row, model.config) for row in range(len(images))]


def _read(source: Source, place: int, preprocess: Preprocessor) -> tuple[Tensor, float]:
    """(image, scale) of one source. What has no path is called by its place in the list."""
    name = f"image {place}"
    if isinstance(source, bytes | str | os.PathLike) or hasattr(source, "read"):
        if isinstance(source, str | os.PathLike):
            encoded, name = read_encoded(source), os.fspath(source)
        else:
            encoded = source if isinstance(source, bytes) else source.read()
        image, scale = preprocess(encoded, name=name)
    else:
        image, scale = preprocess.of_pixels(_pixels(source, name), name=name)
    return torch.from_numpy(image), float(scale)


def _pixels(source: Any, name: str) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of an image in memory. Raises ImageError for another shape or type."""
    if isinstance(source, Tensor):
        source = source.detach().cpu().permute(1, 2, 0).numpy() if source.ndim == 3 else source.numpy()
    elif hasattr(source, "convert"):  # Pillow's
        source = np.asarray(source.convert("RGB"))
    shape, dtype = getattr(source, "shape", None), getattr(source, "dtype", None)
    if not isinstance(source, np.ndarray) or source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8:
        found = f"{type(source).__name__}" + (f" of {shape} {dtype}" if shape is not None else "")
        raise ImageError(
            f"{name}: expected a path, encoded bytes, an open file, a Pillow image, an RGB array (H, W, 3) or a tensor "
            f"(3, H, W) of uint8, found {found}"
        )
    return np.ascontiguousarray(source)


def _prediction(detections: Detections, row: int, config: Config) -> Prediction:
    boxes, scores, classes, _ = found(detections, row)
    boxes, scores, classes = (column[0].cpu().clone() for column in (boxes[..., [1, 0, 3, 2]], scores, classes))
    return Prediction(boxes, scores, classes, tuple(category_name(each, config) for each in classes.tolist()))
