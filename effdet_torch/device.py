"""Where a network runs, and that its float32 is float32 there."""

import torch

from ..errors import EffconvError


def require_device(name: str) -> str:
    """The device's name ("cpu", "cuda", "cuda:1", ...), when something can be computed on it.

    From then on convolutions and products of float32 are made in float32: by default PyTorch lets graphics processors
    round what convolutions multiply to TF32's eleven bits. Raises EffconvError.
    """
    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise EffconvError(
            f"device {name}: cannot be used ({reason}); try cpu", parameters={"device": "cpu"}
        ) from error
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return name
