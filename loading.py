"""From a file of weights, whatever its kind, to a model ready to run."""

import os
from pathlib import Path

import torch

from .convert.apply import require_state
from .convert.conversion import convert, read_weights
from .convert.sources import open_checkpoint
from .effdet_torch.config import Config, ConfigError, get_config
from .effdet_torch.model import EfficientDet
from .effdet_torch.weights import read_pickle
from .errors import EffconvError

PICKLE_ENDINGS = (".pth", ".pt")


def load(
    path: str | os.PathLike[str],
    model: str | Config | None = None,
    *,
    weights: str | None = None,
    verify: bool = True,
) -> EfficientDet:
    """An EfficientDet with the weights at `path`: in eval mode, float32, on the CPU.

    `path` is a TensorFlow checkpoint (directory, prefix, `.index`, `.tar.gz`, `.h5`), a `.safetensors` made by
    `effconv tf2torch`, or a `.pth` state dict. `model` is an official name, an alias, a JSON file or a Config; a
    `.safetensors` knows its own. `weights` is "ema", "raw" or None (moving averages where there are any) and `verify`
    checks every checksum; both concern TensorFlow checkpoints only.

    Raises EffconvError, naming what is wrong, when the file is damaged or does not fit the model in every tensor.
    """
    path = Path(path)
    if weights not in (None, "ema", "raw"):
        raise ValueError(f"weights must be 'ema', 'raw' or None, found {weights!r}")
    if path.suffix == ".safetensors":
        state, stored = read_weights(path)
        config = _given_or_stored(path, model, stored)
    elif model is None:
        raise ConfigError(f"{path}: name the model it is of, as in load({path.name!r}, model='d0')")
    else:
        config = get_config(model)
        if path.suffix in PICKLE_ENDINGS:
            state = read_pickle(path)
        else:
            state = convert(open_checkpoint(path, verify=verify), config, weights, verify=verify).state
    require_state(state, config, str(path))
    with torch.device("meta"):
        network = EfficientDet(config)
    network.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()}, strict=True, assign=True)
    return network.eval()


def _given_or_stored(path: Path, model: str | Config | None, stored: Config | None) -> Config:
    if model is not None:
        return get_config(model)
    if stored is None:
        raise EffconvError(f"{path}: does not say which model it is of; name it, as in load(..., model='d0')")
    return stored
