"""`effconv demo`: the whole way of the detector that ships with effconv, each step with its verdict and one page."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...convert import output_kinds
from ...convert.conversion import convert, manifest_path, write_weights
from ...convert.output import replacing
from ...convert.output_kinds import Kind
from ...convert.sources import open_checkpoint
from ...effdet_torch.model import EfficientDet
from ...effdet_torch.preprocessing.decode import decode, read_encoded
from ...loading import load
from ...strict_json import json_text
from ..comparison.end_to_end_job import compare_end_to_end
from ..comparison.layerwise import compare_layerwise
from ..comparison.pairing import pair_detections
from ..comparison.subject import Choice
from ..datasets.dataset import Dataset
from ..datasets.layouts import read_dataset
from ..embedded import (
    CONFIG,
    CURVE,
    DETECTIONS,
    FOLDER,
    SCORES,
    TRACE,
    TRAINING,
    embedded_config,
    held_out_outputs,
    pixel_digest,
    write_held_out,
)
from ..evaluation.coco import Rows, read_detections
from ..evaluation.evaluate import Evaluation, evaluate_model
from ..evaluation.published_rows import VERDICT_LIMIT
from ..pictures import write_picture
from ..provenance import provenance
from ..reference.availability import runs_live
from ..rendering.html import render
from .demo_page import demo_page
from .demo_pictures import strips
from .outcome import StepOutcome
from .written_weights import compare_written

DRAWN = 8  # pictures that are drawn
STRIPS = 4  # of them on the page, three times each
SHOWN_SCORE = 0.4  # of objects in them
LEAST_SCORE = 0.05
LIVE = 8  # pictures through TensorFlow, where it is installed
Report = Callable[[int, int], None]


def demo_outputs(output: Path) -> Mapping[Path, Kind]:
    """The files that `run_demo` will write. Raises EffconvError when effconv is not complete."""
    weights = output / f"{embedded_config().name}.safetensors"
    return {
        **held_out_outputs(output / "pictures"),
        weights: output_kinds.WEIGHTS,
        manifest_path(weights): output_kinds.MANIFEST,
        output / "detections.json": output_kinds.DETECTIONS,
        **{output / "drawings" / f"{number + 1:06d}.png": output_kinds.PICTURE for number in range(DRAWN)},
        output / "demo.json": output_kinds.RECORD,
        output / "index.html": output_kinds.REPORT,
    }


def run_demo(
    output: Path, command: str, tell: Callable[[StepOutcome], None], report: Callable[[str], Report]
) -> dict[str, Any]:
    """The record of all steps; `tell(step)` is called as each is done, `report(what)` gives a progress report.

    With TensorFlow the official side runs live, without it what it made is read from its recording. Everything is
    written below `output`, the page to OUTPUT/index.html. Raises EffconvError when effconv is not complete.
    """
    config = embedded_config()
    official = json.loads(SCORES.read_text(encoding="utf-8"))
    steps: list[StepOutcome] = []

    def done(name: str, holds: bool | None, verdict: str) -> None:
        steps.append(StepOutcome(name, holds, verdict))
        tell(steps[-1])

    pictures = output / "pictures"
    write_held_out(pictures, report("drawing"))
    dataset = read_dataset(pictures)
    # The metrics are of those pixels: annotations alone say nothing of how they were drawn.
    same = (dataset.sha256, pixel_digest(dataset)) == (official["annotations_sha256"], official["pictures_sha256"])
    done(
        "pictures",
        True if same else None,
        f"{len(dataset.images)} drawn, {len(dataset.annotations)} objects" + _as(same),
    )

    weights = output / f"{config.name}.safetensors"
    write_weights(convert(open_checkpoint(FOLDER), config), weights)
    live = runs_live()
    written = compare_written(FOLDER, config, weights, live=live)
    done("conversion", written.holds, written.verdict)

    reference = "tf" if live else str(TRACE)
    choice = Choice(model=str(CONFIG), checkpoint=FOLDER, reference=reference, candidate=weights)
    layers = compare_layerwise(choice, _no_download, command, explaining=False, backward=False)
    done("layers", layers.ok, layers.verdict)

    detections = output / "detections.json"
    asked = Evaluation(coco=pictures, checkpoint=weights, detections=detections, batch=1, workers=0)
    evaluation = evaluate_model(asked, _no_download, command, report("evaluating"))
    assert evaluation is not None
    if live:
        compared = compare_end_to_end(choice, _no_download, command, pictures, LIVE).record.row.found
        done("from bytes to detections", compared.ok, compared.verdict)
    else:
        done("from bytes to detections", *_beside_recording(read_detections(detections), dataset))
    metrics = [(name, value, official["metrics"][name]) for name, value in evaluation.metrics.items()]
    worst = max(abs(ours - theirs) for _, ours, theirs in metrics)
    found = f"AP {evaluation.metrics['AP']:.4f}, TensorFlow's {official['metrics']['AP']:.4f}; "
    verdict = f"{found}the twelve metrics differ by {worst:.5f} at most, allowed {VERDICT_LIMIT}"
    done("metrics", worst <= VERDICT_LIMIT if same else None, verdict)

    _draw(load(weights), dataset, output / "drawings")
    record = {
        "what": "the way of the detector that ships with effconv",
        "model": config.name,
        "ok": all(step.holds is not False for step in steps),
        "reference": "TensorFlow, run live" if live else "TensorFlow, recorded",
        "steps": [step._asdict() for step in steps],
        "metrics": [{"metric": name, "ours": ours, "official": theirs} for name, ours, theirs in metrics],
        "per_category": dict(evaluation.per_category),
        "layers": layers.without_pictures().plain(),
        "provenance": {"command": command, **provenance()},
    }
    training = json.loads(TRAINING.read_text(encoding="utf-8"))
    beside = strips(dataset, _recorded(), read_detections(detections), STRIPS, SHOWN_SCORE)
    with replacing(output / "demo.json", output / "index.html") as (data, page):
        data.write_text(json_text(record, indent=1) + "\n", encoding="utf-8")
        page.write_text(
            render(demo_page(record, layers.rows, training, CURVE, beside)),
            encoding="utf-8",
            errors="xmlcharrefreplace",
        )
    return record


def _recorded() -> Rows:
    """What TensorFlow found in the first pictures."""
    with np.load(DETECTIONS, allow_pickle=False) as file:
        return np.asarray(file["rows"])


def _beside_recording(ours: Rows, dataset: Dataset) -> tuple[bool, str]:
    """Our detections on the recorded pictures beside TensorFlow's: the same objects above LEAST_SCORE, one to one.

    Below it hundreds of guesses compete for the last of 100 places, which rounding may give to another.
    """
    official = _recorded()
    numbers = np.unique(official[:, 0])
    identical = matched = total = 0
    for number in numbers:
        found = pair_detections(*_columns(official, number), *_columns(ours, number))
        identical += found.identical
        matched += len(found.pairs)
        total += len(found.pairs) + max(len(found.only_first), len(found.only_second))
    verdict = (
        f"{identical} of {len(numbers)} pictures have TensorFlow's list, {matched} of {total} objects are TensorFlow's"
    )
    return matched == total, verdict


def _columns(rows: Rows, number: float) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[Any]]:
    """Boxes yxyx, scores and categories of one image's objects above LEAST_SCORE, scores as detections are written."""
    scores = np.around(rows[:, 5].astype(np.float32), 3)
    chosen = (rows[:, 0] == number) & (scores > LEAST_SCORE)
    x, y, width, height = rows[chosen, 1:5].T
    return np.stack([y, x, y + height, x + width], 1).astype(np.float32), scores[chosen], rows[chosen, 6]


def _draw(model: EfficientDet, dataset: Dataset, folder: Path) -> None:
    """Write the first pictures with what is found in them."""
    for image in dataset.images[:DRAWN]:
        encoded = read_encoded(image.path)
        (prediction,) = model.predict([encoded])
        shown = prediction.above(SHOWN_SCORE)
        names = tuple(dataset.categories.get(each.category, each.name) for each in shown)
        picture = dataclasses.replace(shown, names=names).draw(decode(encoded))
        write_picture(picture, folder / f"{image.path.stem}.png", "PNG")


def _as(same: bool) -> str:
    if same:
        return ", those the detector was recorded with"
    return "; not those recorded (another version of Pillow?), so metrics prove nothing"


def _no_download(model: str) -> Path:
    raise AssertionError(f"{model}: the checkpoint is at hand")
