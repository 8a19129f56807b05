"""Train one contestant of `effconv bench training` a few steps; the words are in the order of `main`'s parameters."""

import sys
from pathlib import Path

from ..training import STEPS, TrainingContest, enter


def main(
    name: str,
    model: str,
    checkpoint: str,
    height: str,
    width: str,
    batch: str,
    threads: str,
    device: str,
    precision: str,
) -> None:
    """The process's peak memory is the contestant's."""
    contest = TrainingContest(model, (int(height), int(width)), int(batch), [name], 1, int(threads), device, precision)
    trained = enter(name, contest, Path(checkpoint))
    for _ in range(STEPS):
        trained.step()


if __name__ == "__main__":
    main(*sys.argv[1:])
