"""The difference between two files of detections, split over what can be read off the files, step by step.

From the second file to the first: the second is given the first's properties, one after another; then come the first's
detections, without its mistakes; then its mistakes, one after another. So the differences add up to the whole.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ..evaluation.coco import Rows
from .bootstrap import draw_images, metrics_of
from .file_mistakes import find_mistakes
from .file_properties import LOOKS
from .matches import match_detections
from .significance import draw_swaps, exchanged, interleaved, intervals
from .versus import SEED, FilePair, VersusStep, versus_metrics

PROPERTY, DETECTIONS, MISTAKE = KINDS = ("property", "detections", "mistake")


class Stage(NamedTuple):
    """Detections on the way from the second file to the first, and the step that made them."""

    name: str
    kind: str
    summary: str
    rows: Rows


def file_waterfall(pair: FilePair) -> tuple[VersusStep, ...]:
    """The steps from the second file to the first: properties, the detections themselves, mistakes.

    Raises EffconvError for detections on other images, as `compare_detections` does.
    """
    times, swaps = draw_images(len(pair.images), SEED), draw_swaps(len(pair.images), SEED)
    before = match_detections(pair.dataset, pair.rows[1], pair.images)
    whole, sampled = metrics_of(before)[0], metrics_of(before, times)
    steps = []
    for stage in stages(pair):
        after = match_detections(pair.dataset, stage.rows, pair.images)
        sampled_before, sampled = sampled, metrics_of(after, times)
        whole_before, whole = whole, metrics_of(after)[0]
        found = intervals(
            (whole, sampled), (whole_before, sampled_before), exchanged(interleaved(after, before), swaps)
        )
        metrics = versus_metrics(whole, whole_before, found)
        steps.append(VersusStep(name=stage.name, kind=stage.kind, summary=stage.summary, metrics=metrics))
        before = after
    return tuple(steps)


def stages(pair: FilePair) -> Iterator[Stage]:
    """What is scored, in order; the last has the first file's detections as they are."""
    mine, ours = pair.rows
    told_apart = len(mine) > 0 and len(ours) > 0
    mistakes = find_mistakes(mine, ours, pair.dataset) if told_apart else []
    right = [mine]  # after none of the mistakes is put right, after one, ...
    for mistake in mistakes:
        right.append(mistake.correct(right[-1]))
    for look in LOOKS if told_apart else ():
        found = look(right[-1], ours, pair.dataset) if len(ours) else None
        if found:
            ours = found.impose(ours)
            yield Stage(found.name, PROPERTY, found.summary, ours)
    yield Stage("detections", DETECTIONS, "the detections themselves", right[-1])
    for mistake, rows in zip(reversed(mistakes), reversed(right[:-1]), strict=True):
        yield Stage(mistake.name, MISTAKE, mistake.summary, rows)
