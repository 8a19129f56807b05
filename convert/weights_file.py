"""Our weights on disk: a `.safetensors` that knows its model and carries a checksum of every tensor."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..effdet_torch.config import Config, config_from_dict, config_to_dict
from ..errors import CheckpointError
from ..strict_json import json_text
from .formats.table import masked_crc32c
from .layout import Array
from .sources import checksum

# One entry of metadata: the library writes several in random order, and equal weights must give equal bytes.
METADATA = "effconv"  # JSON: configuration, every tensor's type, shape and checksum, which weights; a checksum of that
FORMER_METADATA = "effconv.config"  # JSON: the configuration alone, in files written before there were checksums


class StoredWeights(NamedTuple):
    """What a file of PyTorch weights holds: arrays by key, its configuration and its checksums where it has any."""

    state: dict[str, Array]
    config: Config | None
    checksums: dict[str, str] | None  # masked crc32c by key, as hexadecimal digits
    weights: str | None = None  # as `Plan.weights` of the conversion that made it; None where it does not say


def save_weights(state: Mapping[str, Array], config: Config, path: Path, weights: str | None = None) -> None:
    """Write contiguous arrays to `path`. Equal weights give equal bytes. Raises OSError and SafetensorError.

    `weights` says which of a checkpoint's they are: "ema", "raw" or "only", as `Plan.weights`; None where not known.
    """
    from safetensors.numpy import save_file

    described = {
        "config": config_to_dict(config),
        "tensors": {key: _description(array) for key, array in state.items()},
        **({"weights": weights} if weights else {}),
    }
    entry = json_text({**described, "crc32c": _checksum_of(described)}, sort_keys=True)
    save_file(dict(state), path, metadata={METADATA: entry})


def read_weights(path: Path, *, verify: bool = True) -> StoredWeights:
    """The weights in a `.safetensors` file, each compared with its checksum unless `verify` is False.

    Raises CheckpointError when the file is missing or holds something else, and naming the tensor that is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
        entry = json.loads(metadata[METADATA]) if METADATA in metadata else None
        if entry is None:
            config, checksums = json.loads(metadata.get(FORMER_METADATA, "null")), None
        else:
            config, checksums = entry["config"], {key: str(row[-1]) for key, row in entry["tensors"].items()}
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{path}: not a readable .safetensors file of float32 weights ({error})") from error
    if verify and entry is not None:
        _require_intact(path, entry, state)
    stored = StoredWeights(state, None if config is None else config_from_dict(config, source=str(path)), checksums)
    return stored._replace(weights=entry and entry.get("weights"))


def stored_config(path: Path) -> Config | None:
    """The model that a `.safetensors` file says it is of, without reading the weights; None where it does not say.

    Raises CheckpointError when the file is missing or is none.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
        described = json.loads(metadata.get(METADATA, "null"))
        config = described["config"] if described else json.loads(metadata.get(FORMER_METADATA, "null"))
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a readable .safetensors file of float32 weights ({error})") from error
    return None if config is None else config_from_dict(config, source=str(path))


def _require_intact(path: Path, entry: dict[str, Any], state: Mapping[str, Array]) -> None:
    described = {name: value for name, value in entry.items() if name != "crc32c"}
    if entry.get("crc32c") != _checksum_of(described):
        raise CheckpointError(f"{path}: its list of tensors does not have its stored checksum; damaged, get it again")
    expected = entry["tensors"]
    if strangers := sorted(set(expected) ^ set(state)):
        side = "missing" if strangers[0] in expected else "not among those that were written"
        raise CheckpointError(f"{path}: tensor {strangers[0]} is {side}; damaged, get it again")
    for key, array in state.items():
        found = _description(array)
        if found != expected[key]:
            (dtype, shape, crc), (dtype_was, shape_was, crc_was) = found, expected[key]
            raise CheckpointError(
                f"{path}: tensor {key} is damaged: expected {dtype_was} {shape_was} with checksum {crc_was}, "
                f"found {dtype} {shape} with {crc}; get it again"
            )


def _description(array: Array) -> list[Any]:
    return [array.dtype.name, list(array.shape), f"{checksum(array):08x}"]


def _checksum_of(described: dict[str, Any]) -> str:
    return f"{masked_crc32c(json_text(described, sort_keys=True).encode()):08x}"
