"""A program of torch.export beside the model it was made from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from ...effdet_torch.engines.onnx_detector import OUTPUTS, Detecting
from ...effdet_torch.engines.program import load_program
from ...effdet_torch.model import EfficientDet
from ...effdet_torch.postprocessing.detections import Detections
from ..comparison.exported import ExportCheck, check_found

RUNTIME = f"torch.export of PyTorch {torch.__version__}"


def check_program(path: Path, model: EfficientDet, detecting: Detecting, pictures: Sequence[bytes]) -> ExportCheck:
    """Load a program and run it on encoded pictures, drawn ones where there are none, beside the model.

    Raises ImageError for a picture that cannot be decoded.
    """
    program = load_program(path)
    return check_found(lambda images: found_by_program(program, images), RUNTIME, model, detecting, pictures)


def found_by_program(program: Any, images: NDArray[Any]) -> Detections:
    """What a program finds on images as it takes them."""
    with torch.inference_mode():
        found = program(torch.from_numpy(images))
    return Detections(*(found[name] for name in OUTPUTS))
