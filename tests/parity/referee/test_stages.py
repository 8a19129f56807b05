"""A port's own stages beside TensorFlow's: planted faults are found at their stage, the same functions hold."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from plain_port import (
    OWN,
    PICTURE,
    PlainPort,
    antialiased,
    clamped,
    compared,
    cut_off,
    detecting,
    exchanged,
    nearest,
    otherwise,
    ours,
    shifted,
    with_stage,
)

from effconv.effdet_torch.postprocessing.anchors import legacy_anchors
from effconv.effdet_torch.postprocessing.candidates import TopPairs, best_class
from effconv.effdet_torch.postprocessing.nms import PerClass
from effconv.effdet_torch.postprocessing.suppression import Gaussian, Hard
from effconv.effdet_torch.preprocessing.decode import decode_with_pillow
from effconv.errors import EffconvError
from effconv.parity.referee import stage_changes as changes
from effconv.parity.referee.compare_stages import STAGES, Given, StageComparison, stage_lines
from effconv.parity.referee.port_adapters import port_stages
from effconv.parity.referee.port_stages import Outputs, Stages
from effconv.strict_json import json_text
from recorded_losses import CONFIG

pytestmark = pytest.mark.tf


FAULTS: dict[str, tuple[str, Stages]] = {
    "another inverse DCT": ("decoded picture", ours(replace(OWN, decode=decode_with_pillow), "pixels")),
    "BGR pixels": ("decoded picture", otherwise("pixels", lambda pixels: pixels[..., ::-1])),
    "one pixel lost": ("decoded picture", otherwise("pixels", lambda pixels: pixels[:-1])),
    "inverse of the scale": ("scale", otherwise("scale", lambda scale: 1 / scale)),
    "scale of whole pixels": (
        "scale",
        ours(changes.whole_pixel_scale("scale").make(OWN), "scale"),
    ),
    "size in float64": ("input", ours(changes.FLOAT64_SIZE.make(OWN), "input")),
    "nearest neighbour": ("input", with_stage("resized", nearest)),
    "antialiasing": ("input", with_stage("resized", antialiased)),
    "Pillow's filter": ("input", ours(changes.ANTIALIASED.make(OWN), "input")),
    "rounded mean as padding": ("input", ours(changes.padding((124, 116, 104)).make(OWN), "input")),
    "channels exchanged": ("input", otherwise("input", lambda image: image[:, ::-1])),
    "not normalised": ("input", otherwise("normalised", lambda image: image * 0.225 + 0.45)),
    "padding of both sides": ("input", otherwise("sides", lambda sides: [1, sides[1] - 1, 0, sides[3]])),
    "NaN": ("input", otherwise("input", lambda image: image * np.nan)),
    "legacy aspects": ("anchors", with_stage("anchors", lambda: legacy_anchors(CONFIG))),
    "anchors shifted": ("anchors", otherwise("anchors", lambda anchors: anchors - 4)),
    "anchors x before y": ("anchors", otherwise("anchors", exchanged)),
    "anchors in another order": ("anchors", otherwise("anchors", lambda anchors: anchors.flip(0))),
    "anchors of one level lost": ("anchors", otherwise("anchors", lambda anchors: anchors[:-9])),
    "boxes x before y": ("boxes", otherwise("boxes", exchanged)),
    "boxes cut off": ("boxes", otherwise("boxes", cut_off)),
    "size codes cut off": ("boxes", with_stage("boxes", clamped)),
    "boxes a pixel larger": ("boxes", otherwise("boxes", lambda boxes: boxes + torch.tensor([0, 0, 1, 1]))),
    "hard suppression": ("detections", detecting(nms=PerClass(Hard(0.5)))),
    "another sigma": ("detections", detecting(nms=PerClass(Gaussian(0.25)))),
    "a score threshold": ("detections", detecting(nms=PerClass(Gaussian(score_threshold=0.05)))),
    "best classes alone": ("detections", detecting(candidates=best_class)),
    "few candidates": ("detections", detecting(candidates=TopPairs(50))),
    "fewer detections": ("detections", detecting(nms=PerClass(max_outputs=20))),
    "clipping": ("detections", detecting(clip=lambda boxes, size: cut_off(boxes))),
    "categories from 0": (
        "detections",
        otherwise("detections", lambda found: found._replace(categories=found.categories - 1)),
    ),
    "scores a thousandth lower": (
        "detections",
        otherwise("detections", lambda found: found._replace(scores=found.scores * np.float32(0.999))),
    ),
    "the best detection twice": (
        "detections",
        otherwise("detections", lambda found: type(found)(*(np.concatenate([each[:1], each]) for each in found))),
    ),
    "not scaled": ("detections", otherwise("detections", lambda found: found._replace(boxes=found.boxes / 1.85))),
    "x before y": ("detections", otherwise("detections", shifted)),
    "other anchors": ("detections", detecting(anchors=legacy_anchors)),
}


def test_the_same_functions_hold_at_every_stage() -> None:
    found = compared(PlainPort())
    assert found.ok, stage_lines(found)
    assert [row.stage for row in found.rows] == list(STAGES)
    assert found.verdict == "a plain port: 6 of 6 stages are the official ones"
    assert found.detections > 50
    # effconv's own stages are the control.
    assert all(row.effconv <= row.limit for row in found.rows)
    assert StageComparison.read(found.plain()) == found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_at_its_stage_and_nothing_else(fault: str) -> None:
    stage, port = FAULTS[fault]
    found = compared(port)
    assert [row.stage for row in found.rows if not row.ok] == [stage]
    assert found.verdict == f"a plain port: 1 of 6 stages differ: {stage}"


def test_a_stage_that_a_port_does_not_have_is_left_out() -> None:
    found = compared(with_stage("input", lambda pixels: None))
    assert found.ok
    assert found.verdict == "a plain port: 5 of 6 stages are the official ones; not in its code: input"
    assert any("not in its code" in line for line in stage_lines(found))


def test_a_port_that_fails_is_an_error() -> None:
    def fail(pixels: Any) -> None:
        raise KeyError("mean")

    with pytest.raises(EffconvError, match="a plain port: its input cannot be had: KeyError: 'mean'"):
        compared(with_stage("input", fail))


def test_an_infinite_side_is_the_same_on_both() -> None:
    codes = torch.tensor([[0.0, 0.0, 100.0, 0.0]])
    measure, outputs = STAGES["boxes"], Outputs([], [], OWN.anchors()[:1], 1.0, PICTURE)
    given = Given(b"", np.zeros((1, 1, 3), np.uint8), outputs, codes)
    right = measure.value(OWN, given)
    assert torch.isinf(right).any()
    assert measure.difference(right, right, given) == 0
    assert measure.difference(changes.ClampedSizes(4.135)(codes, outputs.anchors), right, given) == np.inf


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("one pixel lost", "179 x 299 x 3 values, not 180 x 299 x 3"),
        ("anchors of one level lost", "values, not"),
        ("NaN", "infinite or not a number"),
    ],
)
def test_values_that_have_no_difference_are_said_to_be_unlike(fault: str, said: str) -> None:
    stage, port = FAULTS[fault]
    found = compared(port)
    (row,) = (row for row in found.rows if row.stage == stage)
    assert row.differs is None
    assert row.there
    assert said in row.unlike
    assert row.unlike in "\n".join(stage_lines(found))
    assert StageComparison.read(json.loads(json_text(found.plain()))) == found


def test_a_port_of_square_inputs_has_no_other() -> None:
    with pytest.raises(EffconvError, match="zylo117: its code makes square inputs alone, found 128x160"):
        port_stages("zylo117", CONFIG)
