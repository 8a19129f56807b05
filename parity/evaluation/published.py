"""`effconv parity --coco`: evaluate a checkpoint as its published number was made, and compare the two."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...effdet_torch.config import Config, get_config
from ...errors import EffconvError
from ..datasets.dataset import DEFAULT_SPLIT
from .detect import Report
from .evaluate import Evaluation, evaluate_model, fingerprint_of
from .published_rows import IMAGES, OFFICIAL_ANNOTATIONS, PublishedRow, best_published, compare_with_row, find_published
from .score_record import ScoreRecord

# Settings that a row states and a run can follow.
FOLLOWED = ("anchors", "candidates", "nms", "score_threshold", "max_detections")


def compare_with_published(
    asked: Evaluation,
    stated: Mapping[str, Any],
    fetch: Callable[[str], Path],
    command: str,
    report: Report | None = None,
) -> ScoreRecord | None:
    """The record of an evaluation, with its `published` comparison; None in all processes but the first.

    The published row is that of this very checkpoint, recognised by the checksums of its tensors, or else the nearest
    official one. What it states about anchors, candidates and suppression is followed, except settings in `stated`,
    which the user gave. Raises EffconvError for bad input and for a model nobody has published a number for.
    """
    if asked.model is None:
        raise EffconvError("name the model to compare", parameters={"model": "d0"})
    config = get_config(asked.model)
    if not find_published(config.name):
        raise EffconvError(
            f"no number is published for {config.name}; `effconv eval` evaluates it, `results` lists all"
        )
    path = asked.checkpoint or fetch(config.name)
    fingerprint = fingerprint_of(path, asked.verify)
    chosen = _row(config, fingerprint, asked, stated)
    follow = {name: chosen.conditions[name] for name in FOLLOWED if name in chosen.conditions and name not in stated}
    settings = dataclasses.replace(asked.settings, **follow)
    asked = dataclasses.replace(asked, checkpoint=path, settings=settings)
    record = evaluate_model(asked, fetch, command, report)
    if record is None:
        return None
    assert record.run is not None  # a model was evaluated
    run = {**record.run.conditions, "fingerprint": fingerprint}
    return dataclasses.replace(record, published=compare_with_row(chosen, record.metrics, run))


def _row(config: Config, fingerprint: str | None, asked: Evaluation, stated: Mapping[str, Any]) -> PublishedRow:
    """The row to compare with: what is not known before the evaluation is taken to be as the row says."""
    size = asked.settings.size or config.image_size
    known: dict[str, Any] = {"image_size": size[0] if size[0] == size[1] else f"{size[0]}x{size[1]}"}
    # The present official settings decide between rows of the same model that no checksum tells apart.
    known |= {name: stated.get(name, getattr(asked.settings, name)) for name in FOLLOWED}
    split = asked.split or DEFAULT_SPLIT
    known |= {"split": split, "images": IMAGES.get(split), "annotations": OFFICIAL_ANNOTATIONS.get(split)}
    known |= {"weights": asked.weights or "ema"}
    known |= {
        "image_decoder": asked.settings.image_decoder,
        "resize": asked.settings.resize,
        "precision": asked.precision,
    }
    found = best_published(config.name, fingerprint, known)
    if found is None:
        raise EffconvError(f"no COCO AP is published for {config.name}; `effconv results` lists what is")
    return found
