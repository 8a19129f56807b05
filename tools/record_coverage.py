"""How often two detectors that are the same but for chance are called better or worse.

    python tools/record_coverage.py

Both find the boxes of one made-up dataset with noise of their own, so that whatever differs is chance. Writes
results/measured/bootstrap-coverage.json, anew after each number of images, and goes on from the numbers it holds when
it is of the same commit.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effconv.parity.ablation.bootstrap import RESAMPLES
from effconv.parity.ablation.matches import match_detections
from effconv.parity.ablation.significance import LEVEL, SWAPS, Interval, paired
from effconv.parity.datasets.dataset import Dataset, Image
from effconv.parity.evaluation.coco import METRICS
from effconv.parity.provenance import provenance
from effconv.parity.rendering.record import write_record

TRIALS = {2: 400, 5: 400, 10: 400, 20: 300, 50: 200, 100: 150}  # by the number of images
SEED = 0
RECORD = Path(__file__).resolve().parent.parent / "results" / "measured" / "bootstrap-coverage.json"
SHARES = (0.6, 0.28, 0.1, 0.02)  # of the boxes, by category: the last is rare
SIZES = (20.0, 60.0, 150.0)  # pixels a side, one in each of COCO's ranges of areas
SIZE_SHARES = (0.05, 0.6, 0.35)
BOXES = 4.0  # in an image, on average
FOUND = 0.7  # of the boxes
WRONG = 3.0  # detections in an image that are nothing, on average
NOISE = 0.12  # of a found box, per side of the box


def trial(images: int, seed: int) -> dict[str, Interval]:
    """{metric: how one detector differs from the other} on so many images."""
    random = np.random.default_rng((SEED, images, seed))
    owners = np.repeat(np.arange(1, images + 1), random.poisson(BOXES, images))
    boxes, categories = _boxes(random, len(owners))
    annotations = tuple(
        {"id": 0, "image_id": int(owner), "category_id": int(kind), "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for owner, kind, box in zip(owners, categories, boxes.tolist(), strict=True)
    )
    entries = tuple(Image(number, Path(f"{number}.jpg"), 480, 640) for number in range(1, images + 1))
    names = {kind + 1: str(kind + 1) for kind in range(len(SHARES))}
    dataset = Dataset(Path("coverage.json"), entries, names, annotations, "")
    ours, theirs = (match_detections(dataset, _detected(random, images, owners, boxes, categories)) for _ in range(2))
    return paired(ours, theirs, seed)


def _boxes(random: np.random.Generator, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    sides = random.choice(SIZES, count, p=SIZE_SHARES)[:, None] * random.uniform(0.7, 1.4, (count, 2))
    boxes = np.concatenate([random.uniform(0, 400, (count, 2)), sides], 1)
    return boxes, random.choice(len(SHARES), count, p=SHARES) + 1


def _detected(
    random: np.random.Generator,
    images: int,
    owners: NDArray[np.int64],
    boxes: NDArray[np.float64],
    categories: NDArray[np.int64],
) -> NDArray[np.float64]:
    """(N, 7) rows: most of the boxes, moved a little, and some that are nothing."""
    kept = random.random(len(owners)) < FOUND
    moved = boxes[kept] + NOISE * boxes[kept][:, [2, 3, 2, 3]] * random.uniform(-1, 1, (kept.sum(), 4))
    right = np.column_stack([owners[kept], moved, random.beta(4, 2, kept.sum()), categories[kept]])
    places = np.repeat(np.arange(1, images + 1), random.poisson(WRONG, images))
    others, kinds = _boxes(random, len(places))
    return np.concatenate([right, np.column_stack([places, others, random.beta(2, 4, len(places)), kinds])])


def measure(images: int, trials: int) -> dict[str, Any]:
    """Shares of trials, by metric, in which the interval excludes 0, and in which there is a verdict."""
    found = [trial(images, seed) for seed in range(trials)]
    return {
        "images": images,
        "trials": trials,
        "interval": {name: _share([each[name].low > 0 or each[name].high < 0 for each in found]) for name in METRICS},
        "verdict": {name: _share([each[name].verdict in ("better", "worse") for each in found]) for name in METRICS},
    }


def _share(outcomes: list[bool]) -> float:
    return sum(outcomes) / len(outcomes)


def main() -> None:
    """Write the record, a row per number of images."""
    made = provenance()
    earlier = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    same = earlier.get("provenance", {}).get("git_commit") == made["git_commit"]
    rows = earlier["rows"] if same else []
    for images, trials in list(TRIALS.items())[len(rows) :]:
        rows.append(measure(images, trials))
        print(images, rows[-1]["interval"]["AP"], rows[-1]["verdict"]["AP"], flush=True)
        record = {
            "what": "how often two detectors that are the same but for chance are called better or worse",
            "command": "python tools/record_coverage.py",
            "level": LEVEL,
            "resamples": RESAMPLES,
            "swaps": SWAPS,
            "rows": rows,
            "provenance": made | {"seed": SEED},
        }
        write_record(record, RECORD)


if __name__ == "__main__":
    main()
