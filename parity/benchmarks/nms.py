"""Soft-NMS beside TensorFlow's, and beside hard NMS, which does less: `effconv bench nms`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...effdet_torch.postprocessing.detections import Detections as Padded
from ...effdet_torch.postprocessing.nms import Candidates, PerClass
from ...effdet_torch.postprocessing.suppression import Hard
from ..comparison.moved_outputs import LOST_FACTOR
from ..reference.graphs import compiled_suppression
from ..reference.network import import_tensorflow
from ..reference.pipeline import DETECTIONS
from .contest import measure, require_tensorflow, use_one_thread
from .contest_records import NmsRecord
from .equal_work import MOST_LOST, Detections, agreeing, require_detections, require_equal

SIDE = 512.0  # of the image the boxes are in
OVERLAP = 0.5
OURS, OUR_HARD = "effconv, soft", "effconv, hard"
TENSORFLOW, TORCHVISION = "TensorFlow, soft, class by class", "torchvision, hard"
PLAIN = "plain PyTorch, hard, all classes in step"


def made_up_candidates(candidates: int, classes: int, seed: int = 0) -> Candidates:
    """Boxes in clusters, as a detector's are: each of an eighth as many objects is found by about eight anchors."""
    random = np.random.default_rng(seed)
    objects = max(1, candidates // 8)
    centres = random.uniform(0, SIDE, (objects, 2))
    sides = np.exp(random.uniform(np.log(12), np.log(250), (objects, 2)))
    kinds = random.integers(0, classes, objects)
    owner = random.integers(0, objects, candidates)
    size = sides[owner] * np.exp(random.normal(0, 0.15, (candidates, 2)))
    centre = centres[owner] + size * random.normal(0, 0.12, (candidates, 2))
    boxes = np.concatenate([centre - size / 2, centre + size / 2], 1).astype(np.float32)
    scores = np.sort(random.beta(1, 6, candidates).astype(np.float32))[::-1].copy()
    kind = np.where(random.random(candidates) < 0.9, kinds[owner], random.integers(0, classes, candidates))
    every = np.arange(candidates)
    return Candidates(*(torch.from_numpy(column)[None] for column in (boxes, scores, kind, every)))


def measure_nms(candidates: int, classes: int, rounds: int, command: str) -> NmsRecord:
    """A record of suppressing made-up candidates of one image: the 100 best of all classes.

    `identical_to_tensorflow` says that ours and TensorFlow's soft-NMS choose the same boxes with the same scores, bit
    for bit. Raises EffconvError without TensorFlow, and where a contestant chooses others than it should.
    """
    require_tensorflow()
    use_one_thread()
    given = made_up_candidates(candidates, classes)
    tensorflow = import_tensorflow()
    theirs = compiled_suppression(classes)
    tensors = [tensorflow.constant(column[0].numpy()) for column in (given.boxes, given.scores, given.classes.int())]
    soft, hard = PerClass(max_outputs=DETECTIONS), PerClass(Hard(OVERLAP), DETECTIONS)
    offset_nms, missing = torchvision_nms()
    boxes, scores, kinds = (column[0] for column in given[:3])
    contestants: dict[str, Callable[[], Any]] = {
        OURS: lambda: soft(given),
        TENSORFLOW: lambda: theirs(*tensors),
        OUR_HARD: lambda: hard(given),
        PLAIN: lambda: hard_in_step(boxes, scores, kinds, OVERLAP, DETECTIONS),
    }
    if offset_nms:
        contestants[TORCHVISION] = lambda: offset_nms(boxes, scores, kinds, OVERLAP)[:DETECTIONS]
    results = {name: run() for name, run in contestants.items()}
    require_equal(
        TENSORFLOW, "boxes, scores, categories", zip(results[TENSORFLOW], _listed(results[OURS]), strict=True)
    )
    _require_hard(given, hard, {name: results[name] for name in (PLAIN, TORCHVISION) if name in results})
    return NmsRecord(
        what="suppression of one image's candidates on one thread, contestants taking turns, medians",
        command=command,
        candidates=candidates,
        classes=classes,
        max_outputs=DETECTIONS,
        identical_to_tensorflow=True,
        left_out={TORCHVISION: missing} if missing else {},
        contest=measure(contestants, dict.fromkeys(contestants, OURS), rounds, 1),
    )


def _listed(found: Padded) -> Detections:
    return [found.boxes[0], found.scores[0], found.classes[0]]


def _require_hard(given: Candidates, hard: PerClass, chosen: dict[str, Tensor]) -> None:
    """Raises EffconvError where indices chosen by hard NMS are not those of ours.

    torchvision may move each class's boxes away from the others', which rounds them: its choice may differ from ours
    by twice what that rounding changes in ours. It refuses candidates left out, and classes that suppress each other.
    """
    ours = _listed(hard(given))
    valid = int((ours[1] > 0).sum())
    ours = [column[:valid] for column in ours]
    boxes, _, kinds = (column[0] for column in given[:3])
    offsets = (kinds.to(boxes) * (boxes.max() + 1))[:, None]
    rounded = _listed(hard(given._replace(boxes=(boxes + offsets - offsets)[None])))
    for name, places in chosen.items():
        allowed = LOST_FACTOR * (1 - agreeing(ours, rounded)) if name == TORCHVISION else 0.0
        found = [boxes[places], given.scores[0][places], kinds[places] + 1]  # categories count from 1
        require_detections(name, found, ours, min(allowed, MOST_LOST))


def torchvision_nms() -> tuple[Callable[..., Tensor] | None, str | None]:
    """(torchvision's `batched_nms`, None), or (None, why it cannot be had)."""
    try:
        from torchvision.ops import batched_nms  # type: ignore[import-not-found]
    except (ImportError, OSError, RuntimeError) as error:  # its wheels are linked to one build of torch
        return None, f"torchvision cannot be imported ({str(error).splitlines()[0]})"
    return batched_nms, None


def hard_in_step(boxes: Tensor, scores: Tensor, classes: Tensor, overlap: float, max_outputs: int) -> Tensor:
    """Hard NMS within classes in tensor operations: indices of the survivors, best first, `max_outputs` at most.

    What one writes without a compiled kernel. All classes go in step: each turn takes the best box left of every class
    and drops what overlaps it by more than `overlap`.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    grouped = order[torch.argsort(classes[order], stable=True)]
    counts = torch.bincount(classes)
    starts = torch.cumsum(counts, 0) - counts
    rows, columns = classes[grouped], torch.arange(len(grouped)) - starts[classes[grouped]]
    width = int(counts.max())
    table = boxes.new_zeros((len(counts), width, 4))
    table[rows, columns] = boxes[grouped]
    left = torch.zeros(len(counts), width, dtype=torch.bool)
    left[rows, columns] = True
    kept = torch.zeros_like(left)
    areas = (table[..., 2] - table[..., 0]) * (table[..., 3] - table[..., 1])
    every = torch.arange(len(counts))
    while bool(left.any()):
        best = left.int().argmax(1)
        kept[every, best] |= left[every, best]
        left[every, best] = False
        chosen = table[every, best][:, None]
        corner = torch.minimum(table[..., 2:], chosen[..., 2:]) - torch.maximum(table[..., :2], chosen[..., :2])
        shared = corner.clamp(min=0).prod(-1)
        left &= shared <= overlap * (areas + areas[every, best][:, None] - shared)
    survivors = grouped[kept[rows, columns]]
    return survivors[torch.argsort(scores[survivors], descending=True, stable=True)][:max_outputs]
