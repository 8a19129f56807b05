"""Time one work of `effconv bench allocation`: WORK MODEL CHECKPOINT BATCH THREADS REPEATS KEPT.

Prints seconds per image, medians, and page faults per image.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable

import torch

from ....allocation import keep_freed_memory
from ....effdet_torch.engines.engines import make_engine
from ....loading import load
from ..contest import use_threads

UNCOUNTED = 2  # passes until the process has the memory it works in


def main(work: str, model: str, checkpoint: str, batch: str, threads: str, repeats: str, kept: str) -> None:
    """KEPT is "kept" or "given back"; WORK "training" or the name of an engine."""
    if kept == "kept" and not keep_freed_memory():
        raise SystemExit("this C library has no mallopt")
    use_threads(int(threads))
    step = _step(work, model, checkpoint, int(batch))
    for _ in range(UNCOUNTED):
        step()
    before, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, []
    for _ in range(int(repeats)):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / int(repeats)
    print(statistics.median(seconds) / int(batch), faults / int(batch))


def _step(work: str, model: str, checkpoint: str, batch: int) -> Callable[[], object]:
    network = load(checkpoint, model=model)
    images = torch.randn(batch, 3, *network.config.image_size, generator=torch.Generator().manual_seed(0))
    if work != "training":
        engine = make_engine(work, network, network.config.image_size)

        def forward() -> object:
            with torch.inference_mode():
                return engine(images)

        return forward
    network.train()

    def train() -> object:
        logits, codes = network(images)
        torch.stack([level.square().mean() for level in [*logits, *codes]]).sum().backward()  # type: ignore[no-untyped-call]
        network.zero_grad()
        return None

    return train


if __name__ == "__main__":
    main(*sys.argv[1:])
