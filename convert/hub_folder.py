"""A folder of weights as hubs have them: `config.json`, which says what the model is, beside `model.safetensors`.

The weights file knows its model too, so nothing in `config.json` is taken on trust: what it says is what effconv would
write for these weights, or the folder is refused.
"""

import json
from pathlib import Path
from typing import Any

from ..effdet_torch.categories import category_name
from ..effdet_torch.config import Config, config_to_dict
from ..errors import CheckpointError
from ..strict_json import as_read
from ..version import __version__
from .weights_file import stored_config

CONFIG_NAME, WEIGHTS_NAME, CARD_NAME = "config.json", "model.safetensors", "README.md"
WRITER = "effconv"  # the key with the version that wrote a folder, and the mark of its `config.json`
LARGEST_CONFIG = 1 << 26  # bytes; 100,000 named classes are a tenth of it
CHECKPOINT_SIGNS = ("checkpoint", "*.index", "saved_model.pb")


def folder_config(config: Config) -> dict[str, Any]:
    """What `config.json` says: the model, its categories by id, and the input that programs other than effconv need.

    Mean and standard deviation are of pixels 0 to 255.
    """
    mean, std = ((127.5,) * 3, (127.5,) * 3) if config.unit_range else (config.mean, config.std)
    described = {
        WRITER: __version__,
        "model": config.name,
        "config": config_to_dict(config),
        "categories": {str(number): category_name(number, config) for number in range(1, config.num_classes + 1)},
        "input": {
            "layout": "(batch, 3, height, width) float32, RGB",
            "image_size": config.image_size,
            "image_mean": mean,
            "image_std": std,
            "resize": "bilinear without antialiasing, aspect kept, padded at the bottom and right",
        },
    }
    return as_read(described)  # type: ignore[no-any-return]


def weights_in(path: Path) -> Path:
    """The weights file of such a folder; any other path as it is, a directory with a TensorFlow checkpoint too.

    Raises CheckpointError for a `config.json` that is not effconv's or not of these weights, and for a folder that
    holds a checkpoint as well, of which nobody can say which is meant.
    """
    described, weights = path / CONFIG_NAME, path / WEIGHTS_NAME
    if not (described.is_file() and weights.is_file()):
        return path
    found = _read(described)
    if any(next(path.glob(sign), None) for sign in CHECKPOINT_SIGNS):
        if WRITER not in found:
            return path
        raise CheckpointError(f"{path}: holds {WEIGHTS_NAME} and a TensorFlow checkpoint; name the file that is meant")
    if WRITER not in found:
        raise CheckpointError(f"{described}: not written by effconv, as that of such a folder is; name {weights}")
    config = stored_config(weights)
    if config is None:
        raise CheckpointError(f"{weights}: does not say which model it is of, so {CONFIG_NAME} proves nothing; name it")
    expected = folder_config(config)
    wrong = [key for key in expected if key != WRITER and found.get(key) != expected[key]]
    if wrong:
        raise CheckpointError(
            f"{described}: {wrong[0]}{_place(expected[wrong[0]], found.get(wrong[0]))} is not that of the weights in "
            f"{WEIGHTS_NAME}; get the folder again, or name {weights}"
        )
    return weights


def _read(path: Path) -> dict[str, Any]:
    """The object in the file; empty for any other JSON. Raises CheckpointError where it is none."""
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise ValueError(f"more than {LARGEST_CONFIG} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a readable configuration ({error}); get it again") from error
    return found if isinstance(found, dict) else {}


def _place(expected: Any, found: Any) -> str:
    """Which entry differs first, with both values, where there are entries."""
    if not isinstance(expected, dict) or not isinstance(found, dict):
        return f" (expected {expected!r:.40}, found {found!r:.40})"
    names = [*expected, *(name for name in found if name not in expected)]
    name = next(name for name in names if expected.get(name) != found.get(name) or name not in expected)
    return f".{name:.40} (expected {expected.get(name)!r:.40}, found {found.get(name)!r:.40})"
