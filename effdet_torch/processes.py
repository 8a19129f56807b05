"""What the processes of one run tell each other: the only file that calls torch.distributed."""

import contextlib
import datetime
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

# One process may wait long for another's share; the default is ten minutes.
PATIENCE = datetime.timedelta(days=7)


@contextlib.contextmanager
def joined(device: str) -> Iterator[None]:
    """Connected to the others, which the environment names as torchrun sets it: by nccl for GPUs, else by gloo."""
    torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def rank() -> int:
    """Which of the connected processes this is, from 0."""
    return torch.distributed.get_rank()


def count() -> int:
    """How many processes are connected."""
    return torch.distributed.get_world_size()


def summed(value: Tensor) -> Tensor:
    """A tensor summed over all processes; `value` stays as it is."""
    value = value.clone()
    torch.distributed.all_reduce(value)
    return value


def gathered(value: Any, processes: int) -> list[Any]:
    """What every one of so many processes has, in order, on all of them."""
    values: list[Any] = [None] * processes
    torch.distributed.all_gather_object(values, value)
    return values


def of_first(value: Any) -> Any:
    """What the first process has, on all of them."""
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]
