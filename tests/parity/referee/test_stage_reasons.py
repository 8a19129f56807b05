"""Why a port's stage differs: said where effconv, made to do the same, comes nearer, and nowhere else."""

import pytest
import torch
from plain_port import (
    OWN,
    compared,
    otherwise,
    ours,
)

from effconv.effdet_torch.postprocessing.nms import Candidates, PerClass
from effconv.effdet_torch.postprocessing.suppression import Gaussian, Hard
from effconv.parity.referee import stage_changes as changes
from effconv.parity.referee.compare_stages import STAGES
from effconv.parity.referee.port_stages import Change, OwnStages, Stages

pytestmark = pytest.mark.tf

# Of effconv's own stages with all of a stage's changes: each is named, and no other.
EXPLAINED: dict[str, list[Change]] = {
    "decoded picture": [changes.PILLOW_DECODING],
    "scale": [changes.whole_pixel_scale("scale")],
    "input": [
        changes.ANTIALIASED,
        changes.FLOAT64_SIZE,
        changes.padding((124, 116, 104)),
        changes.normalising((127.5, 127.5, 127.5), (128.0, 128.0, 128.0)),
    ],
    "anchors": [changes.LEGACY_ANCHORS],
    "boxes": [changes.clamped_sizes("boxes", 4.135)],
    "detections": [
        changes.BEST_CLASS,
        changes.clipped_to_picture(),
        changes.hard(0.5, 0.05, changes.KEEP_ALL),
    ],
}
FUNCTIONS = dict(zip(STAGES, ("pixels", "scale", "input", "anchors", "boxes", "detections"), strict=True))
UNTRUE = (
    changes.padding((0, 0, 255)),
    changes.top_pairs(100_000),
    Change("anchors", "nothing", lambda own: own),
    Change("boxes", "nothing", lambda own: own),
    Change("decoded picture", "nothing", lambda own: own),
)


FAULTS: dict[str, Stages] = {
    "decoded picture": otherwise("pixels", lambda pixels: pixels[..., ::-1]),
    "input": otherwise("input", lambda image: image[:, ::-1]),
    "anchors": otherwise("anchors", lambda anchors: anchors - 4),
    "boxes": otherwise("boxes", lambda boxes: boxes + torch.tensor([0, 0, 1, 1])),
    "detections": ours(OWN.post(nms=PerClass(Gaussian(0.25))), "detections"),
}


def changed(made: list[Change]) -> OwnStages:
    stages = OWN
    for change in made:
        stages = change.make(stages)
    return stages


@pytest.mark.parametrize("stage", EXPLAINED)
def test_why_is_said_where_doing_the_same_takes_the_difference_away(stage: str) -> None:
    port = ours(changed(EXPLAINED[stage]), FUNCTIONS[stage])
    (row,) = (row for row in compared(port, EXPLAINED[stage]).rows if not row.ok)
    assert row.stage == stage
    assert row.why == tuple(change.sentence for change in EXPLAINED[stage])
    assert row.left == 0
    assert row.differs is not None
    assert row.differs > row.limit
    assert [row for row in compared(port).rows if row.why or row.left is not None] == []


@pytest.mark.parametrize("claim", UNTRUE)
def test_what_takes_no_difference_away_is_not_said(claim: Change) -> None:
    rows = compared(FAULTS[claim.stage], [claim]).rows
    assert [row for row in rows if row.why] == []


def test_changes_that_undo_each_other_are_not_said() -> None:
    def moved(own: OwnStages, pixels: float) -> OwnStages:
        anchors = own.postprocess.anchors
        return own.post(anchors=lambda config: anchors(config) + pixels)

    there = Change("anchors", "moves anchors", lambda own: moved(own, 64.0))
    back = Change("anchors", "moves them back", lambda own: moved(own, -64.0))
    (row,) = (row for row in compared(FAULTS["anchors"], [there, back]).rows if not row.ok)
    assert (row.why, row.left) == ((), None)


def test_only_what_is_needed_is_said() -> None:
    known = [*UNTRUE[:1], changes.ANTIALIASED, Change("input", "nothing", lambda own: own)]
    (row,) = (row for row in compared(ours(changes.ANTIALIASED.make(OWN), "input"), known).rows if not row.ok)
    assert row.why == (changes.ANTIALIASED.sentence,)
    assert row.left == 0


def test_classes_that_are_moved_apart_reach_into_the_class_before() -> None:
    """A box that begins left of the picture overlaps the best of the class before, once moved."""
    boxes = torch.tensor([[[10.0, 60.0, 50.0, 100.0], [-91.0, -41.0, -51.0, -1.0]]])
    given = Candidates(boxes, torch.tensor([[0.9, 0.8]]), torch.tensor([[0, 1]]), torch.tensor([[0, 1]]))
    assert int(PerClass(Hard(0.5))(given).valid) == 2
    assert int(changes.MovedApart(Hard(0.5))(given).valid) == 1
