"""Run one contestant of `effconv bench inference` a few times; the words are in the order of `main`'s parameters."""

import sys
from pathlib import Path

import torch

from ....loading import load
from ..contest import use_threads
from ..contestants import contestant
from ..machine import CPU, Machine

PASSES = 3


def main(
    name: str, model: str, checkpoint: str, height: str, width: str, batch: str, threads: str, precision: str
) -> None:
    """The process's peak memory is the contestant's."""
    use_threads(int(threads))
    size, machine = (int(height), int(width)), Machine(CPU, precision)
    network = contestant(name, load(checkpoint, model=model), Path(checkpoint), size, machine).network
    images = torch.zeros(int(batch), 3, *size, dtype=machine.dtype)
    with torch.inference_mode():
        for _ in range(PASSES):
            network(images)


if __name__ == "__main__":
    main(*sys.argv[1:])
