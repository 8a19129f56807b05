"""What every engine and precision makes of D0's outputs, and of the embedded detector's AP.

    python tools/record_engines.py SHARED

Writes results/measured/engines.json. SHARED is the folder of goldens and their checkpoint maker. Takes ten minutes.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from subjects import MEASURED, rebuild

from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.engines import ENGINES, make_engine
from effconv.errors import EffconvError
from effconv.loading import load
from effconv.parity.bootstrap import paired
from effconv.parity.coco import Rows, read_detections
from effconv.parity.dataset import Dataset, read_dataset
from effconv.parity.embedded import CONFIG, FOLDER, write_held_out
from effconv.parity.engine_parity import engine_rows, relative_error
from effconv.parity.evaluation import Evaluation, evaluate_model
from effconv.parity.images import noise
from effconv.parity.matches import match_detections
from effconv.parity.provenance import provenance
from effconv.parity.report import write_record

MODEL, SIZE = "efficientdet-d0", (512, 512)
HALVES = [(engine, precision) for engine in ("eager", "fast") for precision in ("bfloat16", "float16")]


def main(shared: Path) -> None:
    """Record all of them."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        d0 = load(rebuild(MODEL, shared, folder), model=MODEL)
        images = torch.from_numpy(noise(0, SIZE))
        write_held_out(folder / "pictures")
        dataset = read_dataset(folder / "pictures")
        rows, left_out = [], {}
        detections: dict[str, Rows] = {}
        for engine in ENGINES:
            try:
                found = engine_rows(d0, engine, images)
                ap = evaluated(engine, "float32", folder, detections)
            except EffconvError as error:
                left_out[engine] = str(error)
                continue
            error = max(row["error"] for row in found)
            holds, limit = all(row["holds"] for row in found), min(row["limit"] for row in found)
            rows.append(row_of(engine, "float32", error, ap, dataset, detections) | {"limit": limit, "holds": holds})
        with torch.inference_mode():
            exact = [level for kind in d0(images) for level in kind]
            for engine, precision in HALVES:
                network = make_engine(engine, d0, SIZE, precision)
                made = [level for kind in network(images.to(next(network.parameters()).dtype)) for level in kind]
                error = max(relative_error(one.float(), other) for one, other in zip(made, exact, strict=True))
                ap = evaluated(engine, precision, folder, detections)
                rows.append(row_of(engine, precision, error, ap, dataset, detections))
    record: dict[str, Any] = {
        "what": "engines and precisions: error of D0's outputs on noise, and the embedded detector's AP",
        "command": "python tools/record_engines.py ../shared",
        "model": MODEL,
        "image_size": list(SIZE),
        "detector": get_config(str(CONFIG)).name,
        "images": len(dataset.images),
        "left_out": left_out,
        "rows": rows,
        "provenance": provenance(),
    }
    write_record(record, MEASURED / "engines.json")


def evaluated(engine: str, precision: str, folder: Path, detections: dict[str, Rows]) -> dict[str, float]:
    """Metrics of the embedded detector on its held-out pictures; its detections are kept."""
    path = folder / f"{engine}-{precision}.json"
    asked = Evaluation(
        coco=folder / "pictures",
        model=str(CONFIG),
        checkpoint=FOLDER,
        engine=engine,
        precision=precision,
        batch=10,
        workers=0,
        detections=path,
    )
    found = evaluate_model(asked, lambda model: FOLDER, "record_engines")
    assert found is not None
    detections[f"{engine} {precision}"] = read_detections(path)
    return found["metrics"]  # type: ignore[no-any-return]


def row_of(
    engine: str, precision: str, error: float, ap: dict[str, float], dataset: Dataset, detections: dict[str, Rows]
) -> dict[str, Any]:
    """A row: the error, and AP with its difference from the eager model's in float32 and the interval of that."""
    ours, baseline = (
        match_detections(dataset, detections[name]) for name in (f"{engine} {precision}", "eager float32")
    )
    change = paired(ours, baseline, seed=0)["AP"]
    return {
        "engine": engine,
        "precision": precision,
        "error": error,
        "AP": ap["AP"],
        "difference": change.difference,
        "interval": [change.low, change.high],
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
