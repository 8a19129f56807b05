"""From a file of weights, whatever its kind, to a state dict or to a model ready to run."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from .convert.apply import require_finite, require_state
from .convert.conversion import convert
from .convert.layout import Array
from .convert.sources import open_checkpoint
from .convert.weights_file import StoredWeights, read_weights
from .effdet_torch.config import Config, ConfigError, get_config
from .errors import CheckpointError

CHECKPOINT_ENDINGS = (".safetensors", ".pth", ".pt")  # PyTorch weights, which have no official fingerprint

if TYPE_CHECKING:
    from .effdet_torch.model import EfficientDet

PICKLE_ENDINGS = (".pth", ".pt")


class UncheckedWarning(UserWarning):
    """PyTorch weights from a file without checksums: damage to it cannot be seen."""


def load(
    path: str | os.PathLike[str],
    model: str | Config | None = None,
    *,
    weights: str | None = None,
    verify: bool = True,
    allow_nonfinite: bool = False,
) -> "EfficientDet":
    """An EfficientDet with the weights at `path`: in eval mode, float32, on the CPU.

    `path` is a TensorFlow checkpoint (directory, prefix, `.index`, `.tar.gz`, `.h5`), a `.safetensors` made by
    `effconv tf2torch`, or a `.pth` state dict. `model` is an official name, an alias, a JSON file or a Config; a
    `.safetensors` knows its own. `weights` is "ema", "raw" or None (moving averages where there are any), for
    TensorFlow checkpoints alone. `verify` checks every checksum, and warns (UncheckedWarning) of PyTorch weights that
    have none. NaN and infinite weights are refused unless `allow_nonfinite`.

    Raises EffconvError, naming what is wrong, when the file is damaged or does not fit the model in every tensor.
    """
    import torch

    from .effdet_torch.model import EfficientDet

    path = Path(path)
    if weights not in (None, "ema", "raw"):
        raise ValueError(f"weights must be 'ema', 'raw' or None, found {weights!r}")
    if path.suffix == ".safetensors" or path.suffix in PICKLE_ENDINGS:
        state, config = read_state(path, model, verify=verify, allow_nonfinite=allow_nonfinite)
    else:
        config = _require_model(path, model)
        checkpoint = open_checkpoint(path, verify=verify)
        state = convert(checkpoint, config, weights, verify=verify, allow_nonfinite=allow_nonfinite).state
    with torch.device("meta"):
        network = EfficientDet(config)
    network.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()}, strict=True, assign=True)
    return network.eval()


def read_state(
    path: Path, model: str | Config | None = None, *, verify: bool = True, allow_nonfinite: bool = False
) -> tuple[dict[str, Array], Config]:
    """(whole state dict in PyTorch's layout, its model's Config) of a `.safetensors`, `.pth` or `.pt` file.

    `model` may be left out for a `.safetensors` made by effconv. Unless `verify` is False checksums are compared, and
    a file without any is warned of (UncheckedWarning). Raises CheckpointError for a file that is damaged, holds
    anything but tensors, lacks, adds or misshapes a single one, or holds NaN or infinity where not allowed.
    """
    state, stored, checksums = read_stored(path, verify=verify)
    config = stored if stored and model is None else _require_model(path, model)
    require_state(state, config, str(path))
    if not allow_nonfinite:
        require_finite(state, str(path))
    if verify and checksums is None:
        message = f"{path}: has no checksums, so its weights are taken as they are; files effconv writes have them"
        warnings.warn(message, UncheckedWarning, stacklevel=3)
    return state, config


def read_stored(path: Path, *, verify: bool = True) -> StoredWeights:
    """What a `.safetensors`, `.pth` or `.pt` file holds, whatever model it is of; `verify` as in `read_state`.

    Raises CheckpointError for a file that is damaged or holds anything but tensors.
    """
    if path.suffix == ".safetensors":
        return read_weights(path, verify=verify)
    if path.suffix in PICKLE_ENDINGS:
        from .effdet_torch.pickled import read_pickle

        return StoredWeights(read_pickle(path), None, None)
    raise CheckpointError(f"{path}: expected PyTorch weights, a file ending in .safetensors, .pth or .pt")


def _require_model(path: Path, model: str | Config | None) -> Config:
    if model is None:
        raise ConfigError(f"{path}: name the model it is of (--model d0; in Python, model='d0')")
    return get_config(model)
