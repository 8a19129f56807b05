"""What describes a model, within the file it was exported to: an entry `effconv.json` of an archive at the file's end.

TFLite's readers ignore what follows their data, and find files there that belong to a model, as TFLite's metadata does.
"""

import dataclasses
import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...convert.output_kinds import DESCRIPTION, SERVED_DESCRIPTION
from ...effdet_torch.config import Config, config_from_dict, config_to_dict
from ...effdet_torch.engines.onnx_detector import Detecting, pixel_constants
from ...effdet_torch.engines.onnx_export import description
from ...effdet_torch.model import EfficientDet
from ...errors import EffconvError
from ...strict_json import json_text
from ...version import __version__

# What reading an archive that is damaged, locked or nested without end raises.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, RecursionError)
LONGEST = 1 << 20  # bytes of a description, far more than one has
EPOCH = (1980, 1, 1, 0, 0, 0)  # of an entry, so that the same model gives the same bytes


@dataclass(frozen=True, kw_only=True)
class About:
    """What a file says of itself."""

    config: Config  # image_size is the file's
    detecting: Detecting
    precision: str
    weights_sha256: str  # as `weights_digest` has it


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


def description_in(path: Path) -> dict[str, Any]:
    """The description within an archive or a SavedModel's folder. Raises EffconvError where there is none."""
    try:
        found = json.loads((path / SERVED_DESCRIPTION).read_bytes() if path.is_dir() else _archived(path))
    except (*DAMAGE, NotImplementedError, ValueError, OSError) as error:
        raise stranger(path) from error
    if not isinstance(found, dict):
        raise stranger(path)
    return found


def about_of(said: Mapping[str, Any], path: Path) -> About:
    """What a file's description says. Raises EffconvError where some of it is missing."""
    try:
        height, width = said["input"]["size"]
        detecting = Detecting(
            (int(height), int(width)),
            said["input"]["kind"] == "uint8",
            float(said["score_threshold"]),
            int(said["max_detections"]),
        )
        config = config_from_dict(said["config"], source=str(path))
        return About(
            config=dataclasses.replace(config, image_size=detecting.size),
            detecting=detecting,
            precision=str(said["precision"]),
            weights_sha256=str(said["weights_sha256"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EffconvError(f"{path}: its description is not complete ({error}); export it anew") from error


def stranger(path: Path) -> EffconvError:
    """What is said of a file that is not described."""
    return EffconvError(f"{path}: expected a file that `effconv export` wrote, found none of its description in it")


def _archived(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if re.search(rf"(^|/){re.escape(DESCRIPTION)}$", name)]
        if not names:
            return b"null"
        with archive.open(names[0]) as entry:  # which may say that it is small, and be endless
            return entry.read(LONGEST)
