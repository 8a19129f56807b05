"""From a model, or its state dict, to a file of weights under any port's names."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .convert.conversion import checkpoint_paths, checkpoint_prefix, manifest_path, write_checkpoint
from .convert.keras_containers import write_h5, write_object_checkpoint
from .convert.layout import Array
from .convert.namings.manifest import function_note, port_manifest
from .convert.namings.naming import Naming
from .convert.namings.recognition import EFFCONV, NAMINGS
from .convert.namings.tensors import to_port
from .convert.output import OutputError, replacing
from .convert.output_kinds import CHECKPOINT, KERAS_WEIGHTS, MANIFEST, PORT_WEIGHTS, WEIGHTS, Kind
from .convert.weights_file import save_weights
from .effdet_torch.config import Config, ConfigError
from .strict_json import json_text

if TYPE_CHECKING:
    from .effdet_torch.model import EfficientDet


class FunctionWarning(UserWarning):
    """Weights in a file whose readers compute another function with them."""


TENSORFLOW = "tf"
TARGETS = (TENSORFLOW, *NAMINGS)
ENDINGS = (".safetensors", ".pth", ".pt")
TF1, H5, KERAS_OBJECTS = "tf1", "h5", "keras"
CONTAINERS = (TF1, H5, KERAS_OBJECTS)
H5_ENDING = ".h5"


def save(
    model: "EfficientDet", path: str | os.PathLike[str], to: str | None = None, container: str | None = None
) -> list[Path]:
    """Write a model's weights; the paths written.

    `to` is "tf", "effconv", or a port: "effdet", "zylo117", "pytorch-tools", "mmdetection"; left out, the ending of
    `path` says it (`target_of`). Of "tf", `container` is "tf1" (`path` is the prefix of a TF1 checkpoint), "h5" (a
    file of Keras weights) or "keras" (the prefix of a TF2 object checkpoint); left out, TF1 but for a `path` that ends
    in `.h5`. Raises EffconvError where a port has no such model, a container is chosen of another target than "tf", or
    the file cannot be written; then what was there is untouched.
    """
    for name, value, known in (("to", to, TARGETS), ("container", container, CONTAINERS)):
        if value not in (None, *known):
            raise ValueError(f"{name} must be one of {', '.join(known)} or None, found {value!r}")
    path = Path(path)
    container = container_of(path, to, container)
    state = {key: value.detach().cpu().numpy() for key, value in model.state_dict().items()}
    return write_state(state, model.config, path, to or target_of(path), {}, container)


def target_of(path: Path) -> str:
    """What an output is when nobody says: `.safetensors` and `.pth` hold our names, `.h5` or no ending TensorFlow's.

    Raises OutputError for another ending.
    """
    if path.suffix in ENDINGS:
        return EFFCONV.name
    if path.suffix not in ("", H5_ENDING):
        raise OutputError(
            f"{path}: expected {', '.join(ENDINGS)}, {H5_ENDING} or the prefix of a TensorFlow checkpoint"
        )
    return TENSORFLOW


def container_of(path: Path, to: str | None, container: str | None) -> str:
    """Which of TensorFlow's containers an output is: `container`, or else h5 for a path ending in `.h5`, and TF1.

    Raises OutputError for a container that is chosen where `to` is not "tf", and for one that the ending contradicts.
    """
    if container is not None and to != TENSORFLOW:
        raise OutputError(
            f"{path}: {container} is a container of TensorFlow's; ask for TensorFlow's", parameters={"to": TENSORFLOW}
        )
    ended = path.suffix == H5_ENDING
    if container == H5 and not ended:
        raise OutputError(f"{path}: Keras weights are a file ending in {H5_ENDING}; name the output so")
    if container in (TF1, KERAS_OBJECTS) and ended:
        raise OutputError(
            f"{path}: expected the prefix of a checkpoint, found the ending of Keras weights; choose another"
        )
    return container or (H5 if ended else TF1)


def place_of(output: str, to: str, container: str = TF1) -> Path:
    """Where an output goes: the file, or the prefix that `checkpoint_prefix` makes of a folder."""
    return checkpoint_prefix(output) if to == TENSORFLOW and container != H5 else Path(output)


def outputs_of(path: Path, to: str, container: str = TF1) -> dict[Path, Kind]:
    """The files that `write_state` writes, with what each is."""
    if to == TENSORFLOW and container == H5:
        return {path: KERAS_WEIGHTS, manifest_path(path): MANIFEST}
    if to == TENSORFLOW:
        return dict.fromkeys(checkpoint_paths(path), CHECKPOINT)
    ours = to == EFFCONV.name and path.suffix == ".safetensors"
    return {path: WEIGHTS if ours else PORT_WEIGHTS, manifest_path(path): MANIFEST}


def write_state(
    state: Mapping[str, Array], config: Config, path: Path, to: str, source: Mapping[str, Any], container: str = TF1
) -> list[Path]:
    """Write a whole state dict under our names as `to` and `container` ask, with a manifest beside a single file; the
    paths written.

    `source` says in the manifest where it is from. Warns (FunctionWarning) where what reads the file computes another
    function than the model. Raises as `save` does.
    """
    naming = NAMINGS.get(to)
    own_file = naming is EFFCONV and path.suffix == ".safetensors"  # which has the configuration
    if not own_file and (note := function_note(config, naming is not None and naming.zero_padded_pool)):
        warnings.warn(f"{path}: what reads it computes {note}", FunctionWarning, stacklevel=2)
    if to == TENSORFLOW and container == H5:
        return write_h5(state, config, path, source)
    if to == TENSORFLOW and container == KERAS_OBJECTS:
        return write_object_checkpoint(state, config, path, str(path))
    if to == TENSORFLOW:
        return write_checkpoint(state, state, config, path, str(path))
    assert naming is not None
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
