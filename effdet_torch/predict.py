"""Image files -> objects in them, as the official evaluation finds them: what `EfficientDet.predict` does."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .network import Network
from .postprocessing.detections import Detections, finite, found
from .postprocessing.postprocess import Postprocessor, per_class
from .preprocessing.decode import read_encoded
from .preprocessing.preprocess import Preprocessor

Source = bytes | str | os.PathLike[str]  # an encoded image, or the path of one


class Prediction(NamedTuple):
    """The N objects found in one image, best first, on the CPU."""

    boxes: Tensor  # (N, 4) float32 [xmin, ymin, xmax, ymax] in pixels of the original image; may reach beyond it
    scores: Tensor  # (N,) float32, 0 to 1
    categories: Tensor  # (N,) int64, COCO category ids: the model's class + 1

    def above(self, score: float) -> "Prediction":
        """Only the objects with at least this score."""
        return self._of(self.scores >= score)

    def finite(self) -> "Prediction":
        """Only the objects whose box and score are finite numbers."""
        return self._of(finite(self.boxes, self.scores))

    def _of(self, kept: Tensor) -> "Prediction":
        return Prediction(*(column[kept] for column in self))


def predict(
    model: Network,
    sources: Sequence[Source],
    *,
    preprocess: Preprocessor | None = None,
    postprocess: Postprocessor | None = None,
    batch: int = 1,
) -> list[Prediction]:
    """One Prediction per source, in their order; the network runs `batch` images at once, where and in what it is.

    Without `preprocess` and `postprocess` everything is done as in the official evaluation: up to 100 objects per image
    after soft-NMS, boxes not clipped. Give both to use another input size. An image's figures may differ in the last
    bits between batch sizes. Raises ImageError for what cannot be read, ValueError for a model that is in training
    mode or a single path in place of a list, PostprocessError for outputs that are NaN or infinite.
    """
    if isinstance(sources, str | bytes | os.PathLike):
        raise ValueError("predict takes a list of images: predict([image])")
    if batch < 1:
        raise ValueError(f"batch must be at least 1, found {batch}")
    if model.training:
        raise ValueError("the model is in training mode, where it normalises by the batch: call model.eval() first")
    preprocess = preprocess or Preprocessor(model.config)
    postprocess = postprocess or per_class(model.config)
    weight = next(model.parameters())
    predictions: list[Prediction] = []
    for start in range(0, len(sources), batch):
        inputs = [_read(source, start + row, preprocess) for row, source in enumerate(sources[start : start + batch])]
        images = torch.stack([image for image, _ in inputs])
        scales = torch.tensor([scale for _, scale in inputs], device=weight.device)
        with torch.inference_mode():
            logits, codes = model(images.to(weight.device, weight.dtype))
            detections = postprocess([level.float() for level in logits], [level.float() for level in codes], scales)
        # Copies, because tensors made in inference mode may not be used in training.
        predictions += [_prediction(detections, row) for row in range(len(inputs))]
    return predictions


def _read(source: Source, place: int, preprocess: Preprocessor) -> tuple[Tensor, float]:
    """(image, scale) of one source. Encoded images are called by their place in the list."""
    if isinstance(source, bytes):
        encoded, name = source, f"image {place}"
    else:
        encoded, name = read_encoded(source), os.fspath(source)
    image, scale = preprocess(encoded, name=name)
    return torch.from_numpy(image), float(scale)


def _prediction(detections: Detections, row: int) -> Prediction:
    boxes, scores, classes, _ = found(detections, row)
    return Prediction(*(column[0].cpu().clone() for column in (boxes[..., [1, 0, 3, 2]], scores, classes)))
