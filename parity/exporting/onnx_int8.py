"""An ONNX graph in int8: weights and activations, by onnxruntime's static quantisation (QDQ)."""

import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...effdet_torch.engines.onnx_export import INPUT
from ...errors import EffconvError


def quantized_graph(graph: bytes, calibration: Sequence[NDArray[np.float32]], *, per_channel: bool) -> bytes:
    """`graph` with int8 weights and activations, of ranges that `calibration`, inputs (3, H, W), run through.

    A kernel has one scale, or one for each of its output channels; activations have one each. Graphs that
    `export_onnx` wrote, whose input is INPUT. Raises EffconvError without onnxruntime, and where there is no image.
    """
    try:
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise EffconvError("int8 needs onnxruntime: pip install onnx onnxruntime") from error
    if not calibration:
        raise EffconvError("ranges of activations come from images: expected at least one, found none")

    class Images(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(calibration)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            image = next(self.left, None)
            return None if image is None else {INPUT: image[None]}

    logging.getLogger().addFilter(_not_its_advice)
    try:
        with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of ranges that are a single value
            given, prepared, written = (Path(temporary) / f"{name}.onnx" for name in ("given", "prepared", "written"))
            given.write_bytes(graph)
            quant_pre_process(given, prepared, skip_symbolic_shape=True)
            quantization.quantize_static(
                prepared,
                written,
                Images(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=per_channel,
                activation_type=quantization.QuantType.QInt8,
                weight_type=quantization.QuantType.QInt8,
            )
            return written.read_bytes()
    finally:
        logging.getLogger().removeFilter(_not_its_advice)


def _not_its_advice(record: logging.LogRecord) -> bool:
    """onnxruntime logs its advice at the root: to prepare the graph, which is done."""
    return "pre-process" not in record.getMessage()
