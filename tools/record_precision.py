"""What each engine and precision costs: file, error, AP and milliseconds of the embedded detector.

    python tools/record_precision.py FOLDER

FOLDER keeps pictures, graphs, and each row as it comes, so that a run that was cut off is gone on with; rows of another
commit are measured anew, and so are all in a new FOLDER. Writes results/measured/precision-engines.json. Takes about
five minutes; the milliseconds are those of a machine that does nothing else.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from subjects import MEASURED

from effconv.effdet_torch.preprocessing.decode import read_encoded
from effconv.loading import load
from effconv.parity.benchmarks.precision import find, precision_row, prepared
from effconv.parity.benchmarks.precision_forms import FLOAT32, FORMS, Form, make_form, why_left_out
from effconv.parity.benchmarks.precision_record import PrecisionRecord, PrecisionRow
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.datasets.shapes import write_shapes
from effconv.parity.embedded import CONFIG, FOLDER, HELD_OUT_SIZE, SPLIT, write_held_out
from effconv.parity.evaluation.pipeline import Pipeline, Settings, build
from effconv.parity.provenance import provenance, version
from effconv.parity.rendering.record import write_record

CALIBRATED_ON = 100  # the first of the pictures that the detector was trained on
TRAINING_SEED = 1  # of those: `make shapes-detector`


def draw(folder: Path) -> tuple[Path, Path]:
    """Folders of pictures for evaluation and for calibration. Annotations come last: with them one is whole."""
    held_out, training = folder / "held-out", folder / "training"
    if not (held_out / "annotations" / f"instances_{SPLIT}.json").exists():
        write_held_out(held_out)
    if not (training / "annotations" / "instances_train2017.json").exists():
        write_shapes(training, "train2017", CALIBRATED_ON, TRAINING_SEED, HELD_OUT_SIZE)
    return held_out, training


def calibration(folder: Path, pipeline: Pipeline) -> list[NDArray[np.float32]]:
    """Inputs (3, H, W) of the pictures in a folder."""
    paths = sorted((folder / "train2017").glob("*.jpg"))
    return [np.asarray(pipeline.preprocess(read_encoded(path), name=path.name)[0], np.float32) for path in paths]


def kept(folder: Path, commit: str, form: Form) -> Path:
    """Where the row of a form is kept."""
    name = "-".join(each.replace(" ", "-") for each in form if each)
    return folder / commit / f"{name}.json"


def main(folder: Path) -> None:
    """Measure every form that has no row yet."""
    torch.set_num_threads(1)
    made = provenance()
    held_out, training = draw(folder)
    model = load(FOLDER, model=str(CONFIG)).eval()
    pipeline = build(model.config, Settings())
    pictures = prepared(read_dataset(held_out), pipeline)
    inputs = calibration(training, pipeline)
    baseline = find(make_form(FLOAT32, model, inputs).run, pictures, pipeline)
    rows, left_out = [], {}
    for form in FORMS:
        if reason := why_left_out(form):
            left_out[form.engine] = reason
            continue
        path = kept(folder, str(made["git_commit"]), form)
        if not path.exists():
            network = make_form(form, model, inputs, folder / "graphs")
            found = baseline if form == FLOAT32 else find(network.run, pictures, pipeline)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_record(precision_row(form, network, found, baseline).plain(), path)
        rows.append(PrecisionRow.read(json.loads(path.read_text())))
        print(*form, f"AP {rows[-1].ap:.4f}, {rows[-1].milliseconds:.1f} ms", flush=True)
    versions = {name: version(name) for name in ("onnxruntime", "openvino", "onnx")}
    record = PrecisionRecord(
        what="error, AP and time of every engine and precision, beside float32 eager",
        command="python tools/record_precision.py FOLDER",
        model=model.config.name,
        images=len(pictures.images),
        annotations_sha256=pictures.dataset.sha256,
        calibrated_on=len(inputs),
        threads=torch.get_num_threads(),
        rows=tuple(rows),
        left_out=left_out,
        provenance={**made, "versions": {**made["versions"], **versions}},
    )
    write_record(record.plain(), MEASURED / "precision-engines.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
