"""PyTorch weight files (`.pth`, `.pt`) made by others or by training: read as plain tensors, never as code."""

import pickle
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, first_names

# What training scripts call the state dict inside a larger dictionary: moving averages of the weights, and the weights.
AVERAGE_KEYS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
STATE_KEYS = ("state_dict", "model_state_dict", "model")


def read_pickle(path: Path, weights: str | None = None) -> dict[str, Any]:
    """{key: numpy array} of a `.pth` state dict, on the CPU; bfloat16 comes as float32, other types as they are.

    Inside a larger dictionary it is looked for by name: moving averages where there are any, unless `weights` is "raw".
    Loads tensors and plain containers alone (`weights_only`), so a hostile file cannot run code. Raises CheckpointError
    for a file that is damaged, holds anything else, or has no moving averages where `weights` is "ema".
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise CheckpointError(f"{path}: not a readable PyTorch weight file ({_first_line(error)})") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds Python objects other than tensors, which could run code; refused. Save `model.state_dict()`"
        ) from error
    averages = [key for key in AVERAGE_KEYS if isinstance(content, dict) and isinstance(content.get(key), dict)]
    if weights == "ema" and not averages:
        raise CheckpointError(
            f"{path}: holds no moving averages ({', '.join(AVERAGE_KEYS)}); use its raw weights",
            parameters={"weights": "raw"},
        )
    keys = STATE_KEYS if weights == "raw" else (*AVERAGE_KEYS, *STATE_KEYS)
    for key in keys:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path}: expected a state dict of tensors, found {type(content).__name__}")
    strangers = [str(key) for key, value in content.items() if not (isinstance(key, str) and torch.is_tensor(value))]
    if strangers:
        raise CheckpointError(f"{path}: expected tensors alone, found other values: {first_names(strangers)}")
    if any(tensor.is_sparse or tensor.is_quantized for tensor in content.values()):
        raise CheckpointError(f"{path}: holds sparse or quantized tensors; save it in float32")
    return {key: _array(tensor) for key, tensor in content.items()}


def _array(tensor: torch.Tensor) -> Any:
    plain = tensor.detach().contiguous()
    return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()  # numpy has no bfloat16


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
