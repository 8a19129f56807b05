"""What decoding kept outputs again costs beside the network that it does without: `effconv bench ablation`."""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..ablation.output_cache import SELECTED, Selected
from ..ablation.registry import ABLATIONS
from ..ablation.run import Ablator, Cached
from ..ablation.study import Study
from ..distributed import Group
from ..provenance import provenance
from .contest import probe, take_turns, use_one_thread
from .contest_records import Probe, Turn
from .network_records import AblationCostRecord, ImageSeconds
from .process import SEED, make_checkpoint

ABLATION = "hard-nms-0.5"
NETWORK_IMAGES = 4  # that the network runs on in a turn
PROMISED = 0.02


def measure_ablation(
    coco: Path, model: str, checkpoint: Path | None, images: int, limit: int, rounds: int, command: str
) -> AblationCostRecord:
    """A record of one change of decoding over `images` kept images, beside the network on them, on one thread.

    The outputs are of the dataset's first `limit` images, what was selected of them repeated on disk until there are
    `images`. A turn of the network is one batch of NETWORK_IMAGES. Raises EffconvError for bad input.
    """
    use_one_thread()
    with tempfile.TemporaryDirectory() as temporary:
        if checkpoint is None:
            make_checkpoint(model, f"{temporary}/model/model")
        place = checkpoint or Path(temporary) / "model"
        study = Study(coco=coco, model=model, checkpoint=place, limit=limit, batch=NETWORK_IMAGES)
        ablator = Ablator(study, Path(temporary) / "cache", Group())
        kept = ablator.cached(ablator.baseline, [])
        assert kept.selected is not None  # the baseline's decoding is the official one
        given = ablator.images
        ablator.mine = tuple(given[place % len(given)] for place in range(images))
        cached = Cached(kept.outputs, _repeated(kept.selected, images, Path(temporary)), kept.scales, [])
        cached = cached._replace(scales=np.resize(kept.scales, images))
        setup = ablator.changed([ABLATIONS[ABLATION]])
        network, size = ablator.network(ablator.baseline, study.engine), ablator.baseline.pipeline.config.image_size
        batch = torch.zeros(NETWORK_IMAGES, 3, *size)

        def forward() -> None:
            with torch.inference_mode():
                network(batch)

        before = probe()
        contestants: dict[str, Callable[[], object]] = {
            "network": forward,
            "decoding": lambda: ablator.detections(setup, cached),
        }
        turns = take_turns(contestants, rounds)
        after = probe()
    network_seconds = _median(turns["network"]) / NETWORK_IMAGES
    decoding_seconds = _median(turns["decoding"]) / images
    return AblationCostRecord(
        what="one change of decoding over kept outputs beside the network it does without, on one thread, medians",
        command=command,
        model=ablator.baseline.model.config.name,
        image_size=size,
        checkpoint=checkpoint.name if checkpoint else f"random values, seed {SEED}",
        ablation=ABLATION,
        images=images,
        different_images=len(given),
        rounds=rounds,
        probe_gflops=Probe(before=before, after=after),
        seconds_per_image=ImageSeconds(network=network_seconds, decoding=decoding_seconds),
        share=decoding_seconds / network_seconds,
        promised=PROMISED,
        turns={name: tuple(each) for name, each in turns.items()},
        provenance=provenance() | {"dtype": "float32"},
    )


def _median(turns: Sequence[Turn]) -> float:
    return statistics.median(turn.seconds for turn in turns)


def _repeated(selected: Selected, images: int, folder: Path) -> Selected:
    """The rows again and again until there are so many, on disk as the cache has them."""
    arrays: list[Any] = []
    for name in SELECTED:
        array = getattr(selected, name)
        path = folder / f"repeated-{name}.npy"
        made = np.lib.format.open_memmap(path, "w+", array.dtype, (images, *array.shape[1:]))
        for start in range(0, images, len(array)):
            made[start : start + len(array)] = array[: images - start]
        made.flush()
        arrays.append(np.load(path, mmap_mode="r"))
    return Selected(*arrays)
