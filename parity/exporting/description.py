"""What describes a model, within the file it was exported to: an entry `effconv.json` of an archive at the file's end.

TFLite's readers ignore what follows their data, and find files there that belong to a model, as TFLite's metadata does.
"""

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

from ...convert.output_kinds import DESCRIPTION
from ...effdet_torch.config import config_to_dict
from ...effdet_torch.engines.onnx_detector import Detecting, pixel_constants
from ...effdet_torch.engines.onnx_export import description
from ...effdet_torch.model import EfficientDet
from ...strict_json import json_text
from ...version import __version__

EPOCH = (1980, 1, 1, 0, 0, 0)  # of an entry, so that the same model gives the same bytes


def described(model: EfficientDet, detecting: Detecting, precision: str = "float32") -> str:
    """JSON: names of categories by id, input, what is dropped, configuration, and the sha256 of the weights.

    A raw file, which drops nothing, has the usual limits. `mean` and `std` of the input are by channel, of pixels 0 to
    255: what a file that takes normalised images expects.
    """
    texts = description(model)
    mean, std = (each.tolist() for each in pixel_constants(model.config))
    content: dict[str, Any] = {
        "effconv": __version__,
        "model": model.config.name,
        "names": json.loads(texts["names"]),
        "input": {"size": list(detecting.size), "kind": "uint8" if detecting.pixels else "float32"},
        "normalisation": {"mean": mean, "std": std},
        "precision": precision,
        "score_threshold": detecting.score_threshold,
        "max_detections": detecting.max_outputs,
        "config": config_to_dict(dataclasses.replace(model.config, image_size=detecting.size)),
        "weights_sha256": texts["weights_sha256"],
    }
    return json_text(content, indent=1) + "\n"


def append_description(path: Path, text: str) -> None:
    """Put a description at the end of a file."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(DESCRIPTION, EPOCH), text)
