"""`effconv predict` as one job: find the images, detect, draw, and write COCO's JSON."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...convert import output_kinds
from ...convert.output import OutputError, replacing
from ...convert.output_kinds import Kind
from ...effdet_torch.categories import category_name
from ...effdet_torch.config import Config, get_config
from ...effdet_torch.device import require_device
from ...effdet_torch.engines.engines import DEFAULT_NETWORK_ENGINE, make_engine
from ...errors import EffconvError, ImageError
from ...loading import load
from ...strict_json import json_text
from ..engine_choice import graphs_folder, settle_engine
from ..evaluation.coco import Rows, write_detections
from ..evaluation.pipeline import Settings, build
from ..evaluation.weights_used import weights_used
from .image_files import find_images, is_named, name_outputs, require_no_input_among
from .overlap import Predicted, predictions

DETECTIONS, IMAGES = "detections.json", "images.json"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What to predict, and how, as it is asked for."""

    images: Sequence[str]  # files, folders, globs
    output: Path  # a folder
    model: str | None = None
    checkpoint: Path | None = None
    weights: str | None = None
    function: str | None = None  # as `loading.load` has it
    settings: Settings = field(default_factory=Settings)
    min_score: float = 0.3  # objects below it are neither drawn nor written
    hide_below: float | None = None  # objects below it are written, not drawn; None: all that are written are drawn
    device: str = "cpu"
    engine: str = DEFAULT_NETWORK_ENGINE  # of `engines.ENGINES`, or `choice.AUTO`
    workers: int = 0  # threads that read and draw while the network runs; 0: none, one image after another
    strict: bool = False  # stop at the first image that cannot be read
    verify: bool = True


def prediction_outputs(asked: Asked) -> Mapping[Path, Kind]:
    """The files that `predict_images` will write.

    Raises EffconvError for a folder or glob without images, and when one of the images would be overwritten.
    """
    images = find_images(asked.images)
    outputs = {
        **dict.fromkeys(name_outputs(images, asked.output), output_kinds.PICTURE),
        asked.output / DETECTIONS: output_kinds.DETECTIONS,
        asked.output / IMAGES: output_kinds.IMAGE_LIST,
    }
    require_no_input_among([*outputs], images)
    return outputs


def predict_images(
    asked: Asked,
    fetch: Callable[[str], Path],
    report: Callable[[int, int | None], None],
    tell: Callable[[Predicted, Config], None] = lambda predicted, config: None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Draw every image's objects into the output folder, write the two JSON files there, and return the record.

    `detections.json` is a COCO results file; `images.json` a COCO dataset without annotations, which maps its image ids
    to files and its category ids to names (`COCO("images.json").loadRes("detections.json")`). `tell` gets each image
    when it is drawn, and `say` a line about the engine where it was chosen. Raises EffconvError for bad input, and when
    not a single image can be read.
    """
    if asked.model is None and (asked.checkpoint is None or asked.checkpoint.suffix != ".safetensors"):
        raise EffconvError("name the model to predict with", parameters={"model": "d0"})
    if asked.hide_below is not None and asked.hide_below <= asked.min_score:
        raise EffconvError(
            f"objects below {asked.min_score:g} are left out already, expected a higher score to hide from than "
            f"{asked.hide_below:g}",
            parameters={"hide_below": None},
        )
    images = find_images(asked.images)
    drawings = [path for path, kind in prediction_outputs(asked).items() if kind is output_kinds.PICTURE]
    if asked.output.exists() and not asked.output.is_dir():
        raise OutputError(f"{asked.output}: is a file; name a folder for the output")
    path = asked.checkpoint or fetch(get_config(asked.model or "").name)
    model = load(path, model=asked.model, weights=asked.weights, function=asked.function, verify=asked.verify)
    model = model.to(require_device(asked.device))
    pipeline = build(model.config, asked.settings)
    size = pipeline.config.image_size
    engine = settle_engine(asked.engine, model, size, len(images), say, device=asked.device)
    network = make_engine(engine, model, size, graphs=graphs_folder())
    skipped: dict[str, str] = {}
    done: list[Predicted] = []
    hide_below = asked.min_score if asked.hide_below is None else asked.hide_below
    results = predictions(network, pipeline, images, drawings, asked.min_score, hide_below, asked.workers, asked.strict)
    with contextlib.closing(results):
        for place, (image, result) in enumerate(zip(images, results, strict=True)):
            report(place + 1, len(images))
            if isinstance(result, ImageError):
                skipped[str(image)] = str(result)
            else:
                done.append(result)
                tell(result, model.config)
    if not done:
        raise ImageError(f"none of {len(images)} images could be read; the first: {next(iter(skipped.values()))}")
    write_detections(np.concatenate([_rows(predicted) for predicted in done]), asked.output / DETECTIONS)
    _write_images(done, model.config, asked.output / IMAGES)
    return {
        "model": model.config.name,
        "checkpoint": path.name,
        "network_engine": engine,
        "conditions": {
            **pipeline.conditions(weights_used(path, model.config, asked.weights), "float32"),
            "min_score": asked.min_score,
        },
        "output": str(asked.output),
        "detections": str(asked.output / DETECTIONS),
        "images": [_findings(predicted) for predicted in done],
        "skipped": skipped,
        # Of those, the files that were asked for by name.
        "named": [name for name in skipped if name in {str(Path(each)) for each in asked.images if is_named(each)}],
    }


def _rows(predicted: Predicted) -> Rows:
    """(N, 7) rows as the COCO metrics take them. Widths are subtracted in float32, as the official code does."""
    prediction = predicted.prediction
    boxes, scores, categories = (each.numpy() for each in (prediction.boxes, prediction.scores, prediction.categories))
    rows = np.empty((len(scores), 7))
    rows[:, 0], rows[:, 1:3], rows[:, 3:5] = predicted.id, boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    rows[:, 5], rows[:, 6] = scores, categories
    return rows


def _entry(predicted: Predicted) -> dict[str, Any]:
    """An image as COCO's annotation files have it, with the picture that was drawn."""
    size = {"height": predicted.height, "width": predicted.width}
    return {"id": predicted.id, "file_name": str(predicted.image), **size, "drawing": predicted.drawing.name}


def _findings(predicted: Predicted) -> dict[str, Any]:
    """An image as the record has it, with how many objects there are and what was ignored."""
    counts = {"objects": len(predicted.prediction.scores), "not_finite": predicted.not_finite}
    return {**_entry(predicted), **counts, "exif_orientation": predicted.orientation}


def _write_images(done: Sequence[Predicted], config: Config, path: Path) -> None:
    content = {
        "images": [_entry(predicted) for predicted in done],
        "annotations": [],
        "categories": [
            {"id": number, "name": category_name(number, config)} for number in range(1, config.num_classes + 1)
        ],
    }
    with replacing(path) as (file,):
        file.write_text(json_text(content, indent=1) + "\n", encoding="utf-8")
