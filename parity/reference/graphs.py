"""The official pipeline compiled by TensorFlow, from JPEG to detections: the other side of the benchmarks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...effdet_torch.config import Config
from .network import OfficialNetwork, import_tensorflow
from .pipeline import (
    OfficialCandidates,
    OfficialDetections,
    Tensor,
    official_candidates,
    official_detections,
    official_input,
)

Compiled = Any  # what `tf.function` makes of a function; called like it


def compiled_decode() -> Compiled:
    """Encoded image -> (H, W, 3) uint8."""
    tensorflow = import_tensorflow()

    def decode(encoded: Tensor) -> Tensor:
        return tensorflow.io.decode_image(encoded, channels=3, expand_animations=False)

    return tensorflow.function(decode, input_signature=[tensorflow.TensorSpec([], "string")])


def compiled_input(config: Config) -> Compiled:
    """Encoded image -> ((H, W, 3) float32 input of the network, float32 scale from there to original pixels)."""
    tensorflow = import_tensorflow()

    def preprocess(encoded: Tensor) -> tuple[Tensor, Tensor]:
        return official_input(encoded, config)

    return tensorflow.function(preprocess, input_signature=[tensorflow.TensorSpec([], "string")])


def compiled_suppression(num_classes: int) -> Compiled:
    """Boxes (K, 4) yxyx, scores (K,), classes (K,) int32 -> the best 100 after gaussian soft-NMS, class by class."""

    def suppress(boxes: Tensor, scores: Tensor, classes: Tensor) -> OfficialDetections:
        return official_detections(OfficialCandidates(boxes, scores, classes), 1.0, num_classes)

    return import_tensorflow().function(suppress)


def compiled_network(config: Config, variables: Mapping[str, NDArray[np.float32]]) -> Compiled:
    """Images (B, H, W, 3) float32 -> class and box outputs by name, weights being constants of the graph."""

    def network(images: Tensor) -> dict[str, Tensor]:
        return _outputs(config, variables, images)

    return import_tensorflow().function(network)


def compiled_pipeline(config: Config, variables: Mapping[str, NDArray[np.float32]]) -> Compiled:
    """Encoded image -> boxes (100, 4) yxyx in original pixels, scores (100,) and categories (100,), as one graph."""
    tensorflow = import_tensorflow()

    def detect(encoded: Tensor) -> OfficialDetections:
        image, scale = official_input(encoded, config)
        outputs = _outputs(config, variables, tensorflow.ensure_shape(image, [*config.image_size, 3])[None])
        classes, boxes = ([outputs[f"{kind}_outputs/{level}"] for level in config.levels] for kind in ("class", "box"))
        candidates = official_candidates(classes, boxes, config, ordered=False)
        return official_detections(candidates, scale, config.num_classes)

    return tensorflow.function(detect, input_signature=[tensorflow.TensorSpec([], "string")])


def _outputs(config: Config, variables: Mapping[str, NDArray[np.float32]], images: Tensor) -> dict[str, Tensor]:
    # Made inside the graph, so that TensorFlow may fold what is constant.
    network = OfficialNetwork(config, variables, "float32")
    for _ in network.run(images):
        pass
    return dict(network.outputs)
