"""Run one contestant of `effconv bench inference` a few times: NAME MODEL CHECKPOINT HEIGHT WIDTH BATCH THREADS."""

import sys
from pathlib import Path

import torch

from ....loading import load
from ..contest import use_threads
from ..contestants import contestant

PASSES = 3


def main(name: str, model: str, checkpoint: str, height: str, width: str, batch: str, threads: str) -> None:
    """The process's peak memory is the contestant's."""
    use_threads(int(threads))
    size = int(height), int(width)
    network = contestant(name, load(checkpoint, model=model), Path(checkpoint), size).network
    images = torch.zeros(int(batch), 3, *size)
    with torch.inference_mode():
        for _ in range(PASSES):
            network(images)


if __name__ == "__main__":
    main(*sys.argv[1:])
