"""Processes that share work: `torchrun`, or one alone."""

import contextlib
import datetime
import os
import shlex
from collections.abc import Iterator
from typing import Any

import torch

from ..effdet_torch.device import require_device
from ..errors import EffconvError


class Group:
    """The processes of a run: this one's `rank` of `size`. Alone unless torchrun started it."""

    def __init__(self) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0")) if self.size > 1 else 0
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0")) if self.size > 1 else 0

    @contextlib.contextmanager
    def joined(self, device: str) -> Iterator[None]:
        """Connected to the others while the block runs. Raises EffconvError for a device that cannot be used."""
        if self.size > 1 and device.startswith("cuda"):
            torch.cuda.set_device(self.local_rank)
        require_device(device)
        if self.size == 1:
            yield
            return
        backend = "nccl" if device.startswith("cuda") else "gloo"
        # One process may wait long for another's share; the default is ten minutes.
        torch.distributed.init_process_group(backend, timeout=datetime.timedelta(days=7))
        try:
            yield
        finally:
            torch.distributed.destroy_process_group()

    def share(self, value: Any) -> Any:
        """What the first process has, on all of them. An EffconvError there is raised on all of them."""
        if self.size > 1:
            values = [value]
            torch.distributed.broadcast_object_list(values, src=0)
            value = values[0]
        if isinstance(value, EffconvError):
            raise value
        return value

    def gather(self, value: Any) -> list[Any]:
        """What every process has, on all of them."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values


def again(command: str, *options: str) -> str:
    """The command line that starts `command` again, under torchrun if it was, with those of `options` it lacks."""
    words = shlex.split(command)
    words += [option for option in options if option not in words]
    processes = os.environ.get("LOCAL_WORLD_SIZE", "1")
    if processes != "1":
        nodes = os.environ.get("GROUP_WORLD_SIZE", "1")
        launcher = ["torchrun", *(("--nnodes", nodes) if nodes != "1" else ()), "--nproc-per-node", processes]
        words = [*launcher, "-m", "effconv.cli", *words[1:]]
    return shlex.join(words)
