"""Processes that share work: `torchrun`, or one alone."""

import contextlib
import os
import shlex
from collections.abc import Iterator
from typing import Any

import torch

from ..effdet_torch import processes
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
        with processes.joined(device) if self.size > 1 else contextlib.nullcontext():
            yield

    def share(self, value: Any) -> Any:
        """What the first process has, on all of them. An EffconvError there is raised on all of them."""
        if self.size > 1:
            value = processes.of_first(value)
        if isinstance(value, EffconvError):
            raise value
        return value

    def gather(self, value: Any) -> list[Any]:
        """What every process has, on all of them."""
        return processes.gathered(value, self.size) if self.size > 1 else [value]


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
