"""What TensorFlow makes of the detector that ships with effconv: every layer, detections, and metrics.

    python tools/record_shapes.py

Writes examples/shapes/trace.npz and official_detections.npz, and results/measured/shapes-official.json; exits with
status 1 when effconv's metrics on the same pictures are others. Takes about two minutes.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from effconv.convert.output import replacing
from effconv.effdet_torch.config import get_config
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.embedded import CONFIG, DETECTIONS, FOLDER, SCORES, TRACE, pixel_digest, write_held_out
from effconv.parity.evaluation.evaluate import Evaluation, evaluate_model
from effconv.parity.evaluation.official import official_rows, official_scores
from effconv.parity.evaluation.published_rows import VERDICT_LIMIT
from effconv.parity.provenance import provenance
from effconv.parity.rendering.record import write_record
from effconv.parity.traces.official import official_variables

RECORDED = 20  # pictures whose detections are kept
TRACED = (40, 48)  # of the picture whose layers are kept: few megabytes, and odd sizes on the way


def main() -> None:
    """Record all three."""
    config = get_config(str(CONFIG))
    variables, source = official_variables(FOLDER, config)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_held_out(folder)
        dataset = read_dataset(folder)
        pictures = pixel_digest(dataset)
        rows = official_rows(config, variables, dataset)
        scores = official_scores(rows, dataset)
        image = dataset.images[0].path
        size = "{}x{}".format(*TRACED)
        trace = [
            "trace",
            "--model",
            CONFIG,
            "--ckpt",
            FOLDER,
            "--image",
            image,
            "--size",
            size,
            "--float64",
            "-o",
            TRACE,
        ]
        subprocess.run([sys.executable, "-m", "effconv.cli", *map(str, trace)], check=True)
        ours = evaluate_model(
            Evaluation(coco=folder, model=str(CONFIG), checkpoint=FOLDER, workers=0), _no_download, "record_shapes"
        )
    assert ours is not None
    first = [picture.id for picture in dataset.images[:RECORDED]]
    with replacing(DETECTIONS) as (path,), path.open("wb") as file:
        np.savez_compressed(file, rows=rows[np.isin(rows[:, 0], first)])
    worst = max(abs(value - ours.metrics[name]) for name, value in scores.metrics.items())
    record = {
        "what": "COCO metrics of the embedded detector by the official pipeline in TensorFlow, and by effconv",
        "command": "python tools/record_shapes.py",
        "model": config.name,
        "fingerprint": source["checkpoint_fingerprint"],
        "annotations_sha256": dataset.sha256,
        "pictures_sha256": pictures,
        "images": scores.images,
        "detections": scores.detections,
        "engine": scores.engine,
        "metrics": scores.metrics,
        "effconv": dict(ours.metrics),
        "largest_difference": worst,
        "allowed": VERDICT_LIMIT,
        "provenance": provenance() | {"dtype": "float32"},
    }
    write_record(record, SCORES)
    print(f"AP {scores.metrics['AP']:.4f}, effconv's {ours.metrics['AP']:.4f}; largest difference {worst:.6f}")
    sys.exit(worst > VERDICT_LIMIT)


def _no_download(model: str) -> Path:
    raise AssertionError(f"{model}: the checkpoint is at hand")


if __name__ == "__main__":
    main()
