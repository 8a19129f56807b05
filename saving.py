"""From a model, or its state dict, to a file of weights under any port's names."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .convert.conversion import checkpoint_paths, manifest_path, write_checkpoint
from .convert.layout import Array
from .convert.namings.manifest import port_manifest
from .convert.namings.naming import Naming
from .convert.namings.recognition import EFFCONV, NAMINGS
from .convert.namings.tensors import to_port
from .convert.output import OutputError, replacing
from .convert.output_kinds import CHECKPOINT, MANIFEST, PORT_WEIGHTS, WEIGHTS, Kind
from .convert.weights_file import save_weights
from .effdet_torch.config import Config, ConfigError
from .strict_json import json_text

if TYPE_CHECKING:
    from .effdet_torch.model import EfficientDet

TENSORFLOW = "tf"
TARGETS = (TENSORFLOW, *NAMINGS)
ENDINGS = (".safetensors", ".pth", ".pt")


def save(model: "EfficientDet", path: str | os.PathLike[str], to: str | None = None) -> list[Path]:
    """Write a model's weights; the paths written.

    `to` is "tf" (`path` is the prefix of a TF1 checkpoint), "effconv", or a port: "effdet", "zylo117", "pytorch-tools",
    "mmdetection"; left out, the ending of `path` says it (`target_of`). Raises EffconvError where a port has no such
    model, or the file cannot be written; then what was there is untouched.
    """
    if to not in (None, *TARGETS):
        raise ValueError(f"to must be one of {', '.join(TARGETS)} or None, found {to!r}")
    state = {key: value.detach().cpu().numpy() for key, value in model.state_dict().items()}
    path = Path(path)
    return write_state(state, model.config, path, to or target_of(path), {})


def target_of(path: Path) -> str:
    """What an output is when nobody says: `.safetensors` and `.pth` hold our names, a path without ending TensorFlow's.

    Raises OutputError for another ending.
    """
    if path.suffix in ENDINGS:
        return EFFCONV.name
    if path.suffix:
        raise OutputError(f"{path}: expected {', '.join(ENDINGS)} or the prefix of a TensorFlow checkpoint")
    return TENSORFLOW


def outputs_of(path: Path, to: str) -> dict[Path, Kind]:
    """The files that `write_state` writes, with what each is."""
    if to == TENSORFLOW:
        return dict.fromkeys(checkpoint_paths(path), CHECKPOINT)
    ours = to == EFFCONV.name and path.suffix == ".safetensors"
    return {path: WEIGHTS if ours else PORT_WEIGHTS, manifest_path(path): MANIFEST}


def write_state(
    state: Mapping[str, Array], config: Config, path: Path, to: str, source: Mapping[str, Any]
) -> list[Path]:
    """Write a whole state dict under our names as `to` asks, with a manifest beside a port's; the paths written.

    `source` says in the manifest where it is from. Raises as `save` does.
    """
    if to == TENSORFLOW:
        return write_checkpoint(state, state, config, path, str(path))
    naming = NAMINGS[to]
    if not naming.models(config):
        raise ConfigError(f"{naming.port} has no {config.label}, so its names have no place for it")
    if path.suffix not in ENDINGS:
        raise OutputError(f"{path}: {naming.port}'s weights are a file ending in {' or '.join(ENDINGS)}")
    manifest = manifest_path(path)
    with replacing(path, manifest, errors=_writers()) as (weights_file, manifest_file):
        theirs = to_port(state, naming, config)
        _write(theirs, naming, config, path.suffix, weights_file)
        described = port_manifest(state, theirs, naming, config, path.name, source)
        manifest_file.write_text(json_text(described, indent=1) + "\n", encoding="utf-8")
    return [path, manifest]


def _writers() -> tuple[type[Exception], ...]:
    """What the libraries raise that cannot write, beside OSError."""
    from safetensors import SafetensorError

    return SafetensorError, RuntimeError


def _write(tensors: Mapping[str, Array], naming: Naming, config: Config, ending: str, file: Path) -> None:
    if ending != ".safetensors":
        import torch

        torch.save({key: torch.from_numpy(array.copy()) for key, array in tensors.items()}, file)
    elif naming is EFFCONV:
        save_weights(tensors, config, file)
    else:
        from safetensors.numpy import save_file

        save_file({key: array.copy() for key, array in tensors.items()}, file)
