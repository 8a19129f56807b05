"""The official computation as a TFLite file: the network, and TFLite's own operation for decoding and suppression.

The operation is `TFLite_Detection_PostProcess`. The converter puts it in the place of a function that is marked with
its name and settings, as in the official export. Source: google/automl `tf2/infer_lib.py: export`; TensorFlow
`lite/kernels/detection_postprocess.cc`.
"""

import contextlib
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...effdet_torch.config import Config
from .network import OfficialNetwork, import_tensorflow
from .notes import without_notes
from .pipeline import Tensor, official_anchor_boxes

OPERATION = "TFLite_Detection_PostProcess"
INPUT = "images"
OUTPUTS = ("boxes", "classes", "scores", "count")
OVERLAP = 0.5  # of two boxes of a class, above which the one of the lower score is dropped
PRECISIONS = ("float32", "float16", "int8")


class Suppression(NamedTuple):
    """What the operation drops. Its rule is hard suppression within each class, of all scores of a box."""

    score_threshold: float
    max_outputs: int  # of the image, and so of a class too


class RowMeans(OfficialNetwork):
    """The official network whose means are those of a map's rows, and then of these: the same, but for rounding.

    TensorFlow and TFLite add one pixel after another. Of a map of 64 x 64 that alone loses up to twenty times what all
    other operations do, and a file would not find an object's score to five digits.
    """

    def _mean(self, name: str, x: Tensor) -> Tensor:
        rows = self.tensorflow.reduce_mean(x, [2], keepdims=True)
        return self.tensorflow.reduce_mean(rows, [1], keepdims=True, name=name)


class TFLiteDetector:
    """The official network with given variables, ready to be converted; one image, (1, H, W, 3), at a time.

    With `suppression` its outputs are OUTPUTS: boxes (1, M, 4) [ymin, xmin, ymax, xmax] in parts of the input's height
    and width, classes (1, M) from 0, scores (1, M) and count (1,), all float32; without, the network's, class_logits_3
    (1, h, w, A*C), ..., box_codes_3 (1, h, w, A*4), .... Images are float32, normalised; or, with `pixels`, uint8.
    Raises EffconvError without TensorFlow.
    """

    def __init__(
        self,
        config: Config,
        variables: Mapping[str, NDArray[np.float32]],
        suppression: Suppression | None,
        *,
        pixels: bool = False,
    ):
        self.config, self.suppression, self.pixels = config, suppression, pixels
        self.tensorflow = tensorflow = import_tensorflow()
        network = RowMeans(config, variables, "float32")
        kind = "uint8" if pixels else "float32"
        signature = [tensorflow.TensorSpec((1, *config.image_size, 3), kind, INPUT)]

        @tensorflow.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator]
        def detect(images: Tensor) -> dict[str, Tensor]:
            for _ in network.run(normalised(images, config) if pixels else images):
                pass
            return self._suppressed(network.outputs) if suppression else raw_outputs(network.outputs, config)

        self._module = tensorflow.Module()
        self._module.detect = detect

    @property
    def output_names(self) -> list[str]:
        """The file's outputs."""
        return list(self._module.detect.get_concrete_function().structured_outputs)

    def convert(
        self, precision: str = "float32", calibration: Sequence[NDArray[Any]] = (), *, per_channel: bool = True
    ) -> bytes:
        """The file's content.

        "float16" keeps weights so, and computes in float32. "int8" keeps weights and activations so, with ranges that
        `calibration`, images as the file takes them (H, W, 3), run through; what has no such kernel stays float32. A
        kernel of int8 has a scale for each of its output channels or, without `per_channel`, one.
        """
        tensorflow = self.tensorflow
        with warnings.catch_warnings(), without_notes(), quiet_converter():
            warnings.simplefilter("ignore")
            function = self._module.detect.get_concrete_function()
            converter = tensorflow.lite.TFLiteConverter.from_concrete_functions([function], self._module)
            converter.allow_custom_ops = True
            if precision != "float32":
                converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
            if precision == "float16":
                converter.target_spec.supported_types = [tensorflow.float16]
            if precision == "int8":
                kinds = tensorflow.lite.OpsSet
                converter._experimental_disable_per_channel = not per_channel  # there is no public name for it
                converter.representative_dataset = lambda: ([image[None]] for image in calibration)
                # The second for the operation that suppresses, which has no form in integers.
                converter.target_spec.supported_ops = [kinds.TFLITE_BUILTINS_INT8, kinds.TFLITE_BUILTINS]
            return bytes(converter.convert())

    def _suppressed(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        tensorflow, config, suppression = self.tensorflow, self.config, self.suppression
        assert suppression is not None
        most = suppression.max_outputs
        logits, codes = flat_outputs(outputs, config)

        @tensorflow.function(experimental_implements=marked(suppression, config.num_classes))  # type: ignore[untyped-decorator]
        def postprocess(codes: Tensor, scores: Tensor, anchors: Tensor) -> tuple[Tensor, ...]:
            # Never run: the converter looks at the mark and the shapes.
            return tuple(tensorflow.zeros(shape) for shape in ((1, most, 4), (1, most), (1, most), (1,)))

        found = postprocess(codes, tensorflow.sigmoid(logits), tensorflow.constant(centred_anchors(config)))
        return dict(zip(OUTPUTS, found, strict=True))


def marked(suppression: Suppression, num_classes: int) -> str:
    """The operation's name and settings, as the converter reads them: an attribute list in protocol buffers' text."""
    settings: dict[str, int | float | bool] = {
        "max_detections": suppression.max_outputs,
        "max_classes_per_detection": 1,  # of the fast rule, which is not used
        "detections_per_class": suppression.max_outputs,
        "use_regular_nms": True,
        "nms_score_threshold": float(suppression.score_threshold),
        "nms_iou_threshold": OVERLAP,
        "num_classes": num_classes,
        "y_scale": 1.0,
        "x_scale": 1.0,
        "h_scale": 1.0,
        "w_scale": 1.0,
    }
    words = [f'name: "{OPERATION}"']
    for name, value in settings.items():
        field = {bool: "b", int: "i", float: "f"}[type(value)]
        words.append(f'attr {{ key: "{name}" value {{ {field}: {str(value).lower()} }} }}')
    return " ".join(words)


def centred_anchors(config: Config) -> NDArray[np.float32]:
    """(N, 4) anchors [y of the centre, x of the centre, height, width] in parts of the image's height and width."""
    ymin, xmin, ymax, xmax = official_anchor_boxes(config).astype(np.float64).T
    height, width = config.image_size
    columns = [(ymin + ymax) / 2 / height, (xmin + xmax) / 2 / width, (ymax - ymin) / height, (xmax - xmin) / width]
    return np.stack(columns, 1).astype(np.float32)


def normalised(pixels: Tensor, config: Config) -> Tensor:
    """Images of pixels 0 to 255 as the network takes them, float32."""
    tensorflow = import_tensorflow()
    images = tensorflow.cast(pixels, "float32")
    return images / 127.5 - 1.0 if config.unit_range else (images - config.mean) / config.std


def flat_outputs(outputs: Mapping[str, Tensor], config: Config) -> tuple[Tensor, Tensor]:
    """(class logits (B, N, C), box codes (B, N, 4)) of every anchor, of the network's outputs by official names."""
    tensorflow = import_tensorflow()

    def flat(kind: str, values: int) -> Tensor:
        levels = [outputs[f"{kind}_outputs/{level}"] for level in config.levels]
        counts = [math.prod(each.shape[1:]) // values for each in levels]
        parts = [tensorflow.reshape(each, (-1, count, values)) for each, count in zip(levels, counts, strict=True)]
        return tensorflow.concat(parts, 1)

    return flat("class", config.num_classes), flat("box", 4)


def raw_outputs(outputs: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The network's outputs by the names that exported files have for them, the lowest level first."""
    named = {"class_logits": "class_outputs", "box_codes": "box_outputs"}
    return {
        f"{ours}_{level}": outputs[f"{theirs}/{level}"] for ours, theirs in named.items() for level in config.levels
    }


@contextlib.contextmanager
def quiet_converter() -> Iterator[None]:
    """Hold back what TensorFlow's converter tells of its own steps."""

    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    levels = [each.level for each in loggers]
    try:
        for each in loggers:
            each.setLevel(logging.ERROR)
        yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


def run_tflite(content: bytes, images: Sequence[NDArray[Any]]) -> list[dict[str, NDArray[Any]]]:
    """The outputs by name of each image (H, W, 3), by TensorFlow's own interpreter on one thread."""
    run = tflite_runner(content)
    return [run(image) for image in images]


def tflite_runner(content: bytes) -> Callable[[NDArray[Any]], dict[str, NDArray[Any]]]:
    """A TFLite file as a function of one image (H, W, 3), as `run_tflite` runs it. Raises as the interpreter does."""
    tensorflow = import_tensorflow()
    with warnings.catch_warnings(), without_notes():
        warnings.simplefilter("ignore")  # that it moves to a package of its own
        interpreter = tensorflow.lite.Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()  # here, where what it says of itself is held back
        runner = interpreter.get_signature_runner()

    def run(image: NDArray[Any]) -> dict[str, NDArray[Any]]:
        # Copied: the interpreter writes the next image's where these are.
        return {name: value.copy() for name, value in runner(**{INPUT: image[None]}).items()}

    return run
