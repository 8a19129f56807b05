"""COCO metrics of `detections.npy` in a dataset's folder: FOLDER METRICS_ENGINE OUTPUT. Prints seconds, metrics."""

import sys
import time
from pathlib import Path

import numpy as np

from ....strict_json import json_text
from ...datasets.layouts import read_dataset
from ...evaluation.coco import evaluate


def main(folder: str, metrics_engine: str, output: str) -> None:
    """The arrays go to `output`, an .npz file."""
    dataset, detections = read_dataset(Path(folder)), np.load(Path(folder) / "detections.npy")
    start = time.perf_counter()
    scores = evaluate(dataset, detections, engine=metrics_engine)
    seconds = time.perf_counter() - start
    np.savez(output, precision=scores.precision, recall=scores.recall, scores=scores.scores)
    print(json_text({"seconds": seconds, "metrics": scores.metrics}))


if __name__ == "__main__":
    main(*sys.argv[1:])
