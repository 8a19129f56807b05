"""What stands for a model's weights, and for the code of this package: another digest as soon as either differs."""

import functools
import hashlib
from pathlib import Path

import numpy as np
from torch import nn


def weights_digest(model: nn.Module) -> str:
    """The sha256 of every tensor's name and float32 values, in the state dict's order."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().float().cpu().numpy()).data)
    return digest.hexdigest()


@functools.cache
def package_code_digest() -> str:
    """The sha256 of every file of `effdet_torch`, with its place in the folder."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()
