"""Comparisons from bytes to detections, of made-up detections on pictures drawn here."""

from collections.abc import Sequence

import numpy as np

from effconv.effdet_torch.config import Config, get_config
from effconv.parity.comparison.end_to_end import ImageResult
from effconv.parity.comparison.end_to_end_job import EndToEndComparison, end_to_end
from effconv.parity.comparison.end_to_end_record import EndToEndRecord, EndToEndRow
from effconv.parity.comparison.end_to_end_stages import STAGES, Measured, Stage
from effconv.parity.comparison.pairing import pair_detections
from effconv.parity.comparison.records import Candidate, Reference
from effconv.parity.reference.pipeline import OfficialDetections
from effconv.parity.traces.images import drawn

CONFIG: Config = get_config("d0")
SIZE = (120, 160)  # (H, W) of the pictures
LIMIT = 1e-3  # of a matched object's score

Object = tuple[tuple[float, float, float, float], float, int]  # yxyx, score, category
# Far from each other; the first column of what a difference is told of.
OBJECTS: Sequence[Object] = (
    ((10, 10, 50, 50), 0.9, 1),
    ((60, 60, 110, 110), 0.8, 2),
    ((10, 100, 40, 150), 0.7, 3),
    ((70, 5, 110, 45), 0.6, 4),
)


def detections(objects: Sequence[Object]) -> OfficialDetections:
    """As both sides' lists are, best first."""
    best = sorted(objects, key=lambda each: -each[1])
    boxes, scores, categories = ([each[column] for each in best] for column in range(3))
    return OfficialDetections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(categories, np.int64)
    )


def result(
    name: str, ours: Sequence[Object], official: Sequence[Object] = OBJECTS, *, holds: bool = True
) -> ImageResult:
    """One image's result; its lists are what the pairing says, unexplained where the image does not hold."""
    both = detections(official), detections(ours)
    pairing = pair_detections(*both[0], *both[1])
    same = pairing.identical and pairing.score_gap <= LIMIT
    stages = [Stage(each, True, f"{each} as it should be", Measured(0.0, 1.0, "of what is allowed")) for each in STAGES]
    if not holds:
        stages[-1] = Stage(STAGES[-1], False, "objects differ", Measured(pairing.score_gap, LIMIT, "of a score"))
    lists = "unexplained" if not holds else "identical" if same else "explained"
    return ImageResult(name, stages, lists, pairing, *both, LIMIT)


def comparison(results: Sequence[ImageResult], picture: bytes | None = None) -> EndToEndComparison:
    """A comparison of these, each on the same drawn picture, or on the bytes of another."""
    encoded = picture or drawn(0, SIZE)
    row = EndToEndRow(
        model=CONFIG.name,
        candidate=Candidate(label="effconv 0.1, torch 2.13.0"),
        reference=Reference(label="the official pipeline in TensorFlow 2.21.0", more={}),
        found=end_to_end(results),
    )
    record = EndToEndRecord(row=row, provenance={"command": "effconv parity --end-to-end", "effconv": "0.1.0"})
    images = [(each.image, lambda: encoded) for each in results]
    return EndToEndComparison(record=record, config=CONFIG, images=images, results=results)
