"""Processes that read images ahead of the network."""

import multiprocessing
import os
import signal
from pathlib import Path

from effconv.effdet_torch.config import read_config
from effconv.effdet_torch.preprocessing.preprocess import Preprocessor
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.datasets.shapes import write_shapes
from effconv.parity.evaluation.image_stream import stream

CONFIG = Path(__file__).parents[2] / "golden" / "tiny-swish" / "config.json"


def test_a_reading_process_leaves_an_interruption_to_the_one_that_started_it(tmp_path: Path) -> None:
    """One that ended by itself would wait until somebody takes what it has read."""
    write_shapes(tmp_path, "val2017", 12, 0, (96, 96))
    images = read_dataset(tmp_path).images
    batches = stream(images, Preprocessor(read_config(CONFIG)), 1, 1)
    found = [next(batches)]  # so that the process is ready
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGINT)
    found += batches
    assert [batch.images[0].id for batch in found] == [image.id for image in images]
