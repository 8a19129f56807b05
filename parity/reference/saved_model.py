"""The official computation as a TensorFlow SavedModel, with the serving signature of the official export.

`serving_default` takes `images` and gives, as the official `ExportModel.__call__` returns them, `output_0` boxes
(B, M, 4) [ymin, xmin, ymax, xmax] in pixels, `output_1` scores (B, M), `output_2` classes (B, M) float32 from 1, and
`output_3` (B,) int32, how many of an image's M rows are objects; the others have boxes and scores of zero, and class 1.
The official export takes uint8 images of any size and scales them inside; here they have the network's size.

Source: google/automl `tf2/infer_lib.py: ExportModel, ServingDriver.export`, `tf2/postprocess.py: postprocess_combined`;
`tf2/efficientdet_keras.py: EfficientDetModel.call` for the order.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...effdet_torch.config import Config
from .network import import_tensorflow
from .notes import without_notes
from .pipeline import Tensor, official_anchor_boxes, official_boxes
from .tflite import INPUT, OVERLAP, RowMeans, Suppression, flat_outputs, normalised, quiet_converter

SIGNATURE = "serving_default"


class ServedDetector:
    """The official network with given variables, for batches of any size, ready to be saved.

    With `suppression` its outputs are those of this file's head; without, the network's as the official `predict` has
    them: class outputs (B, h, w, A*C) level by level, then box outputs (B, h, w, A*4). Images are (B, H, W, 3) float32,
    normalised; or, with `pixels`, uint8. Raises EffconvError without TensorFlow.
    """

    def __init__(
        self,
        config: Config,
        variables: Mapping[str, NDArray[np.float32]],
        suppression: Suppression | None,
        *,
        pixels: bool = False,
    ):
        self.tensorflow = tensorflow = import_tensorflow()
        network = RowMeans(config, variables, "float32")
        # Variables, which are saved beside the graph; constants would be inside it.
        network.variables = {
            name: tensorflow.Variable(value, trainable=False, name=name) for name, value in network.variables.items()
        }
        kind = "uint8" if pixels else "float32"
        signature = [tensorflow.TensorSpec((None, *config.image_size, 3), kind, INPUT)]

        @tensorflow.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator]
        def detect(images: Tensor) -> tuple[Tensor, ...]:
            for _ in network.run(normalised(images, config) if pixels else images):
                pass
            outputs = network.outputs
            if suppression:
                return combined_detections(*flat_outputs(outputs, config), config, suppression)
            return tuple(outputs[f"{each}_outputs/{level}"] for each in ("class", "box") for level in config.levels)

        self._module = tensorflow.Module()
        self._module.weights = dict(network.variables)  # what a module does not have is not saved
        setattr(self._module, "__call__" if suppression else "predict", detect)
        self._detect = detect

    @property
    def output_names(self) -> list[str]:
        """The signature's outputs."""
        return [f"output_{place}" for place in range(len(self._detect.get_concrete_function().structured_outputs))]

    def save(self, folder: Path) -> None:
        """Write the SavedModel into a folder."""
        with _quiet():
            signatures = {SIGNATURE: self._detect.get_concrete_function()}
            self.tensorflow.saved_model.save(self._module, str(folder), signatures=signatures)


def write_errors() -> tuple[type[Exception], ...]:
    """What TensorFlow raises, beside OSError, where it cannot write."""
    return (import_tensorflow().errors.OpError,)


def combined_detections(
    logits: Tensor, codes: Tensor, config: Config, suppression: Suppression
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(boxes, scores, classes from 1, number) of class logits (B, N, C) and box codes (B, N, 4): hard, within classes.

    Boxes are cut off at the edges of the input.
    """
    tensorflow = import_tensorflow()
    boxes, scores, classes, number = tensorflow.image.combined_non_max_suppression(
        tensorflow.expand_dims(official_boxes(codes, tensorflow.constant(official_anchor_boxes(config))), 2),
        tensorflow.sigmoid(logits),
        suppression.max_outputs,
        suppression.max_outputs,
        iou_threshold=OVERLAP,
        score_threshold=suppression.score_threshold,
        clip_boxes=False,
    )
    edges = tensorflow.constant([*config.image_size, *config.image_size], "float32")
    return tensorflow.clip_by_value(boxes, 0.0, edges), scores, classes + 1, number


def saved_model_runner(folder: Path) -> Callable[[NDArray[Any]], list[NDArray[Any]]]:
    """The SavedModel in a folder, loaded by TensorFlow, as a function of a batch (B, H, W, 3) to its outputs in order.

    Raises as TensorFlow does.
    """
    tensorflow = import_tensorflow()
    with _quiet():
        served = tensorflow.saved_model.load(str(folder))

    def run(images: NDArray[Any]) -> list[NDArray[Any]]:
        with _quiet():  # by `served`: its signatures do not keep its variables
            found = served.signatures[SIGNATURE](**{INPUT: tensorflow.constant(images)})
        return [found[f"output_{place}"].numpy() for place in range(len(found))]

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without TensorFlow's notes and warnings."""
    with warnings.catch_warnings(), without_notes(), quiet_converter():
        warnings.simplefilter("ignore")
        yield
