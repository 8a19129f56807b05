"""The detector that ships with effconv: trained on drawn shapes, an official-format TensorFlow checkpoint.

Beside it is what the official computation in TensorFlow made of it, recorded, so that it is proven without TensorFlow:
every layer on one picture, the detections on some, and the metrics on all held-out pictures. `make shapes-detector`
trains it anew; `tools/record_shapes.py` records.
"""

import hashlib
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from ..convert.output_kinds import Kind
from ..effdet_torch.config import Config, get_config
from ..effdet_torch.preprocessing.decode import decode, read_encoded
from ..errors import EffconvError
from .datasets.dataset import Dataset
from .datasets.shapes import shapes_outputs, write_shapes

PACKAGE = Path(str(resources.files(__package__.partition(".")[0]))).resolve()
FOLDER = PACKAGE / "examples" / "shapes"
CONFIG = FOLDER / "config.json"
TRACE = FOLDER / "trace.npz"  # every layer, on one picture
DETECTIONS = FOLDER / "official_detections.npz"  # rows of `coco.Rows` on the first pictures
CURVE = FOLDER / "curve.png"
SCORES = PACKAGE / "results" / "measured" / "shapes-official.json"
TRAINING = PACKAGE / "results" / "measured" / "shapes-training.json"
HELD_OUT_IMAGES, HELD_OUT_SEED, HELD_OUT_SIZE = 500, 2, (120, 144)  # height, width
SPLIT = "val2017"


def embedded_config() -> Config:
    """The detector's configuration. Raises EffconvError when what ships with effconv is not there."""
    missing = [path for path in (CONFIG, FOLDER / "model.index", TRACE, DETECTIONS, SCORES) if not path.is_file()]
    if missing:
        raise EffconvError(f"{missing[0]}: missing; it ships with effconv, so install from a complete checkout")
    return get_config(str(CONFIG))


def write_held_out(folder: Path, report: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Draw the pictures the detector was not trained on; see `shapes.write_shapes`."""
    return write_shapes(folder, SPLIT, HELD_OUT_IMAGES, HELD_OUT_SEED, HELD_OUT_SIZE, report)


def held_out_outputs(folder: Path) -> Mapping[Path, Kind]:
    """The files that `write_held_out` will write."""
    return shapes_outputs(folder, SPLIT, HELD_OUT_IMAGES)


def pixel_digest(dataset: Dataset) -> str:
    """The sha256 of all pictures' decoded pixels, in order, each after its name and (H, W, 3): not of the files' bytes.

    Raises ImageError for a picture that cannot be read.
    """
    found = hashlib.sha256()
    for image in dataset.images:
        pixels = decode(read_encoded(image.path), name=str(image.path))
        found.update(f"{image.path.name} {pixels.shape}\n".encode() + pixels.tobytes())
    return found.hexdigest()
