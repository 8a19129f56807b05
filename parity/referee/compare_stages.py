"""A port's own input, anchors, boxes and detections beside the official ones: `effconv parity --port --end-to-end`.

Each stage is fed the official values of the stages before it, so that a row differs by its own fault alone. Why it
differs is said only where effconv's stages, made to do the same, come nearer to the port's.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...effdet_torch.config import Config
from ...effdet_torch.postprocessing.candidates import flatten_levels
from ...effdet_torch.preprocessing.resize import Pixels
from ...errors import EffconvError
from ...strict_json import finite
from ..plain import Plain
from .port_stages import Change, Levels, Outputs, OwnStages, Stages, TensorFlowStages
from .stage_limits import (
    ANCHOR_LIMIT,
    BOX_LIMIT,
    SCALE_LIMIT,
    array_difference,
    box_sizes,
    different_detections,
    input_limit,
    pixel_difference,
)

# Size codes that are put in place of a picture's first two: what clamps codes clamps them at less, and pictures seldom
# have such.
FAR_CODES = (6.0, -6.0)


@dataclass(frozen=True, kw_only=True)
class StageDifference(Plain):
    """One stage of a port."""

    stage: str
    what: str  # differences are in
    there: bool  # whether the port's code has such a stage
    differs: float | None  # theirs from the official; None where it is not there, and where it is `unlike`
    effconv: float  # effconv's own from the official
    limit: float
    ok: bool
    why: tuple[str, ...] = ()  # what was made on the official side to come nearer
    left: float | None = None  # what then differs
    unlike: str = ""  # of values that have no difference: another shape, not a number


@dataclass(frozen=True, kw_only=True)
class StageComparison(Plain):
    """All stages of a port, on one picture."""

    theirs: str
    official: str
    model: str
    image_size: tuple[int, int]
    picture: str
    picture_size: tuple[int, int]
    detections: int  # of the official side
    rows: tuple[StageDifference, ...]

    @property
    def ok(self) -> bool:
        """Whether every stage that the port has holds."""
        return all(row.ok for row in self.rows)

    @property
    def whole(self) -> bool:
        """Whether the port's code has every stage."""
        return all(row.there for row in self.rows)

    @property
    def verdict(self) -> str:
        """One line."""
        wrong = [row.stage for row in self.rows if not row.ok]
        missing = [row.stage for row in self.rows if not row.there]
        there, every = len(self.rows) - len(missing), len(self.rows)
        left_out = f"; not in its code: {', '.join(missing)}" if missing else ""
        if wrong:
            return f"{self.theirs}: {len(wrong)} of {there} stages differ: {', '.join(wrong)}{left_out}"
        return f"{self.theirs}: {there} of {every} stages are the official ones{left_out}"


class Given(NamedTuple):
    """The official values that stages are fed."""

    encoded: bytes
    pixels: Pixels
    outputs: Outputs
    codes: Tensor  # (N, 4) of all levels, FAR_CODES among them


class Measure(NamedTuple):
    """How one stage of a side is had, how two values of it are compared, and what rounding may make of that."""

    what: str
    value: Callable[[Stages, Given], Any]
    difference: Callable[[Any, Any, Given], float]
    limit: Callable[[Config, Given], float]


def _wide(values: Any) -> Any:
    return np.asarray(values, np.float64)


def _anchors_apart(theirs: Tensor, official: Tensor, given: Given) -> float:
    return array_difference(_wide(theirs), _wide(official), float(official.abs().max()))


def _boxes_apart(theirs: Tensor, official: Tensor, given: Given) -> float:
    sizes = box_sizes(_wide(given.codes), _wide(given.outputs.anchors))
    return array_difference(_wide(theirs), _wide(official), sizes)


STAGES: Mapping[str, Measure] = {
    "decoded picture": Measure(
        "share of values",
        lambda side, given: side.pixels(given.encoded),
        lambda theirs, official, given: pixel_difference(theirs, official),
        lambda config, given: 0.0,
    ),
    "scale": Measure(
        "of the scale",
        lambda side, given: side.scale(given.outputs.picture),
        lambda theirs, official, given: array_difference(theirs, official, official),
        lambda config, given: SCALE_LIMIT,
    ),
    "input": Measure(
        "normalised value",
        lambda side, given: side.input(given.pixels),
        lambda theirs, official, given: array_difference(_wide(theirs), _wide(official)),
        lambda config, given: input_limit(config, given.outputs.picture),
    ),
    "anchors": Measure(
        "of the largest coordinate",
        lambda side, given: side.anchors(),
        _anchors_apart,
        lambda config, given: ANCHOR_LIMIT,
    ),
    "boxes": Measure(
        "of a corner's terms",
        lambda side, given: side.boxes(given.codes, given.outputs.anchors),
        _boxes_apart,
        lambda config, given: BOX_LIMIT,
    ),
    "detections": Measure(
        "detections of either side that the other lacks",
        lambda side, given: side.detections(given.outputs),
        lambda theirs, official, given: float(different_detections(theirs, official, given.outputs.picture)),
        lambda config, given: 0.0,
    ),
}


def compare_stages(
    theirs: Stages,
    config: Config,
    heads: Callable[[Tensor], tuple[Levels, Levels]],
    encoded: bytes,
    picture: str,
    changes: Sequence[Change] = (),
) -> StageComparison:
    """Compare every stage that `theirs` has with TensorFlow's, on a picture's bytes.

    `heads` gives class logits and box codes by level of an input (1, 3, H, W); `config.image_size` is that input's.
    `changes` are what the port's code says it does otherwise. Raises EffconvError without TensorFlow, for a picture
    that cannot be decoded, and where the port's code fails.
    """
    official, own = TensorFlowStages(config), OwnStages.official(config)
    pixels = own.pixels(encoded)
    size = (pixels.shape[0], pixels.shape[1])
    logits, codes = ([level.float() for level in maps] for maps in heads(torch.from_numpy(official.input(pixels))))
    outputs = Outputs(logits, codes, official.anchors(), float(official.scale(size)[0]), size)
    of_boxes = flatten_levels(codes, 4)[0].clone()
    of_boxes[: len(FAR_CODES), 2:] = torch.tensor(FAR_CODES)[:, None]
    given = Given(encoded, pixels, outputs, of_boxes)
    right = {name: measure.value(official, given) for name, measure in STAGES.items()}
    return StageComparison(
        theirs=theirs.label,
        official=official.label,
        model=config.name,
        image_size=config.image_size,
        picture=picture,
        picture_size=size,
        detections=len(right["detections"].scores),
        rows=tuple(
            _row(name, theirs, own, right[name], given, [each for each in changes if each.stage == name])
            for name in STAGES
        ),
    )


def _row(
    stage: str, theirs: Stages, own: OwnStages, official: Any, given: Given, changes: Sequence[Change]
) -> StageDifference:
    measure = STAGES[stage]
    value = _value(stage, theirs, given)
    limit = measure.limit(own.config, given)
    differs = 0.0 if value is None else measure.difference(value, official, given)
    ok = differs <= limit
    why, left = _explained(measure, value, own, given, changes, differs) if changes and not ok else ((), None)
    return StageDifference(
        stage=stage,
        what=measure.what,
        there=value is not None,
        differs=None if value is None else finite(differs),
        effconv=measure.difference(measure.value(own, given), official, given),
        limit=limit,
        ok=ok,
        why=why,
        left=left,
        unlike="" if math.isfinite(differs) else _unlike(value, official),
    )


def _unlike(theirs: Any, official: Any) -> str:
    shapes = [" x ".join(map(str, each.shape)) for each in (theirs, official)]
    return f"{shapes[0]} values, not {shapes[1]}" if shapes[0] != shapes[1] else "infinite or not a number"


def _value(stage: str, theirs: Stages, given: Given) -> Any:
    try:
        return STAGES[stage].value(theirs, given)
    except Exception as error:  # whatever a port's code does
        line = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise EffconvError(f"{theirs.label}: its {stage} cannot be had: {line}") from error


def _explained(
    measure: Measure, value: Any, own: OwnStages, given: Given, changes: Sequence[Change], differs: float
) -> tuple[tuple[str, ...], float | None]:
    """(sentences of the changes without each of which more differs, what is left with them)."""

    def apart(made: Sequence[Change]) -> float:
        stages = own
        for change in made:
            stages = change.make(stages)
        return measure.difference(value, measure.value(stages, given), given)

    needed = list(changes)
    left = apart(needed)
    while needed:
        # The change without which least differs goes, until each that is left is missed.
        fewer = [[other for other in needed if other is not each] for each in needed]
        without = [apart(made) for made in fewer]
        least = int(np.argmin(without))
        if without[least] > left:
            break
        needed, left = fewer[least], without[least]
    return (tuple(each.sentence for each in needed), left) if left < differs else ((), None)


def stage_lines(found: StageComparison) -> list[str]:
    """The comparison as text, the verdict first."""
    height, width = found.picture_size
    lines = [
        found.verdict,
        f"beside {found.official}: {found.model} at {found.image_size[0]}x{found.image_size[1]}, {found.picture} "
        f"({height}x{width}), {found.detections} official detections",
    ]
    for row in found.rows:
        if not row.there:
            lines.append(f"  {row.stage:16} not in its code")
            continue
        word = "holds" if row.ok else "differs"
        apart = row.unlike or f"by {row.differs:.3g} ({row.what}), allowed {row.limit:.2g}"
        lines.append(f"  {row.stage:16} {word:8} {apart}")
        lines += [f"    {sentence}" for sentence in row.why]
        if row.left is not None:
            lines.append(f"    effconv made to do the same differs from it by {row.left:.3g}")
    return lines
