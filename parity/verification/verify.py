"""`effconv verify`: the whole claim about one released model, step by step, each with its verdict.

Every step can be gone on with: downloads resume, unpacked folders are kept, a layer comparison of the same weights is
read back, and the evaluation goes on from its finished images.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...convert import output_kinds
from ...convert.conversion import convert, manifest_path, write_weights
from ...convert.output import replacing
from ...convert.output_kinds import PAGE_MARK, Kind
from ...convert.sources import open_checkpoint
from ...effdet_torch.config import Config, config_to_dict, get_config
from ...errors import EffconvError
from ...strict_json import json_text
from ...version import __version__
from ..comparison.layerwise import compare_layerwise
from ..comparison.records import ComparisonRecord
from ..comparison.subject import Choice
from ..datasets.coco_archives import Report, download_coco
from ..datasets.dataset import Image
from ..datasets.layouts import read_dataset
from ..evaluation.contents import content, package_digest
from ..evaluation.evaluate import Evaluation, fingerprint_of
from ..evaluation.pipeline import Settings
from ..evaluation.published import compare_with_published
from ..evaluation.published_rows import OFFICIAL_ANNOTATIONS
from ..provenance import provenance, version
from ..reference.network import import_tensorflow
from ..rendering.html import render
from ..rendering.markdown import UNENCODABLE, markdown_table, markdown_text
from ..same_run import changes
from .outcome import StepOutcome
from .verification_page import verification_html, verification_verdict
from .written_weights import compare_written


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What to verify, as it is asked for; None means found or downloaded."""

    model: str
    output: Path  # folder of the converted weights and all records
    checkpoint: Path | None = None
    coco: Path | None = None
    split: str | None = None
    batch: int = 1
    workers: int = 1
    device: str = "cpu"


def verification_outputs(folder: Path, config: Config) -> Mapping[Path, Kind]:
    """The files that `verify` will write."""
    weights = folder / f"{config.name}.safetensors"
    return {
        weights: output_kinds.WEIGHTS,
        manifest_path(weights): output_kinds.MANIFEST,
        folder / "layers.json": output_kinds.RECORD,
        folder / "detections.json": output_kinds.DETECTIONS,
        folder / "verification.json": output_kinds.RECORD,
        folder / "verification.md": output_kinds.REPORT,
        folder / "verification.html": output_kinds.REPORT,
    }


def verify(
    asked: Verification,
    fetch: Callable[[str], Path],
    command: str,
    report: Callable[[str], Report],
    tell: Callable[[StepOutcome], None],
) -> dict[str, Any]:
    """The record of all steps, as it is written to OUTPUT/verification.json, .md and .html; `tell(step)` is called as
    each is done.

    `fetch(model)` gives the released checkpoint, verified; `report(what)` a progress report. Raises EffconvError for
    whatever keeps a step from being carried out; going on with the same command starts from there.
    """
    import_tensorflow()  # what the layers are compared with: not found missing after the downloads
    config = get_config(asked.model)
    steps: list[StepOutcome] = []

    def done(name: str, holds: bool | None, verdict: str) -> None:
        steps.append(StepOutcome(name, holds, verdict))
        tell(steps[-1])

    checkpoint = asked.checkpoint or fetch(config.name)
    label = fingerprint_of(checkpoint, verify=True)
    known = f"{checkpoint.name} is the released {label}, by the checksum of every tensor"
    unknown = f"{checkpoint.name} is intact, and none of the releases whose tensors' checksums are on record"
    done("checkpoint", True if label else None, known if label else unknown)

    folder = asked.coco or download_coco(report)
    dataset = read_dataset(folder, asked.split)
    official = OFFICIAL_ANNOTATIONS.get(dataset.split)
    found = f"{len(dataset.images)} images and {len(dataset.annotations)} boxes of {dataset.split}"
    other = f"; not COCO's own annotations: expected {official or 'a split whose annotations are on record'}, found "
    whose = ", COCO's own by their sha256" if dataset.content == official else other + dataset.content
    done("dataset", True if dataset.content == official else None, found + whose)

    done("conversion", *_convert(checkpoint, config, asked.output))

    layers = _compare_layers(asked, checkpoint, dataset.images[0], command)
    done("layers", layers.ok, layers.verdict)

    evaluation = Evaluation(
        coco=folder,
        model=asked.model,
        checkpoint=checkpoint,
        split=asked.split,
        settings=Settings(),
        detections=asked.output / "detections.json",
        resume=True,
        batch=asked.batch,
        workers=asked.workers,
        device=asked.device,
    )
    metrics = compare_with_published(evaluation, {}, fetch, command, report("evaluating"))
    if metrics is None:
        raise EffconvError("verify runs as one process; share out `effconv eval` by torchrun")
    assert metrics.published is not None
    done("metrics", metrics.published.holds, metrics.published.verdict)

    record = {
        "what": "a released model verified",
        "model": config.name,
        # A checkpoint nobody has the checksums of is verified by what it computes.
        "ok": metrics.published.holds is True and all(step.holds is not False for step in steps),
        "steps": [step._asdict() for step in steps],
        "metrics": metrics.plain(),
        "provenance": {"command": command, **provenance()},
    }
    names = (asked.output / f"verification{ending}" for ending in (".json", ".md", ".html"))
    with replacing(*names) as (data, text, page):
        data.write_text(json_text(record, indent=1) + "\n", encoding="utf-8")
        text.write_text(verification_markdown(record), encoding="utf-8", errors=UNENCODABLE)
        page.write_text(render(verification_html(record)), encoding="utf-8", errors="xmlcharrefreplace")
    return record


def _convert(checkpoint: Path, config: Config, folder: Path) -> tuple[bool, str]:
    """Whether the file that was written holds the checkpoint's weights, and what was found in it."""
    path = folder / f"{config.name}.safetensors"
    write_weights(convert(open_checkpoint(checkpoint), config), path)
    written = compare_written(checkpoint, config, path, live=True)
    return written.holds, f"{written.verdict} -> {path.name}"


def _compare_layers(asked: Verification, checkpoint: Path, image: Image, command: str) -> ComparisonRecord:
    """The comparison of every layer on a photograph, or an earlier session's of the same inputs and code."""
    key = {
        "fingerprint": open_checkpoint(checkpoint, verify=False).fingerprint(),
        "config": config_to_dict(get_config(asked.model)),
        "image": {"name": image.path.name, "sha256": content(image)},
        "code": package_digest(),
        "versions": {name: version(name) for name in ("torch", "tensorflow", "numpy")} | {"effconv": __version__},
    }
    path = asked.output / "layers.json"
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if not changes(earlier.pop("key"), key):
            return ComparisonRecord.read(earlier)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EffconvError):
        pass  # none, or not one of ours: it is made anew
    choice = Choice(model=asked.model, checkpoint=checkpoint, image=image.path)
    record = compare_layerwise(choice, _no_download, command, explaining=False, backward=False)
    with replacing(path) as (file,):
        kept = {"key": key, **record.without_pictures().plain()}
        file.write_text(json_text(kept) + "\n", encoding="utf-8")
    return record


def _no_download(model: str) -> Path:
    raise AssertionError(f"{model}: the checkpoint is at hand")


def verification_markdown(record: Mapping[str, Any]) -> str:
    """One page in Markdown: the verdict, a row per step, and the twelve metrics beside the published ones."""
    outcome = {True: "holds", False: "does not hold", None: "not proven"}
    lines = [
        PAGE_MARK,
        "",
        f"# {record['model']}: {verification_verdict(record)[0]}",
        "",
        markdown_table(
            ("step", "outcome", "what was found"),
            [(step["name"], outcome[step["holds"]], markdown_text(step["verdict"])) for step in record["steps"]],
        ),
        "",
        markdown_table(
            ("metric", "here", "published"),
            [
                (row["metric"], f"{row['ours']:.4f}", "-" if row["published"] is None else f"{row['published']:.4f}")
                for row in record["metrics"]["published"]["rows"]
            ],
        ),
    ]
    conditions = ", ".join(f"{name} {value}" for name, value in record["metrics"]["conditions"].items())
    made = record["provenance"]
    lines += ["", f"Evaluated with: {conditions}.", ""]
    lines += [f"Made by `{made['command']}`, effconv {made['effconv']}, commit {made['git_commit']}.", ""]
    return "\n".join(lines)
