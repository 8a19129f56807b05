"""An engine's outputs beside the model's: `effconv parity --engine`."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..effdet_torch.engines import make_engine
from .layerwise import Choice, choose_images, choose_subject
from .limits import FLOAT64_LIMIT, NOISE_FACTOR
from .provenance import provenance

# The model in float64 is what parity proves equal to the official computation, to 1e-13. An engine in float32 may round
# as much as the model in float32 does, times NOISE_FACTOR. The model's noise is the largest of a head's levels: of the
# few values of a small map the largest error is a matter of chance.


def compare_engine(choice: Choice, fetch: Callable[[str], Path], engine: str, command: str) -> dict[str, Any]:
    """The record of an engine's outputs, level by level, beside the model's in float64. Raises EffconvError."""
    subject = choose_subject(choice, fetch)
    model = subject.load()
    given, label = choose_images(choice, subject.config)
    images = torch.from_numpy(given)
    size = (images.shape[2], images.shape[3])
    rows = engine_rows(model, engine, images)
    exact = fast_error_in_float64(subject.load(), images) if engine in ("fast", "compile") else None
    holds = all(row["holds"] for row in rows) and (exact is None or exact <= FLOAT64_LIMIT)
    return {
        "what": "an engine's outputs beside the model's in float64",
        "command": command,
        "model": subject.config.name,
        "checkpoint": subject.checkpoint.name,
        "engine": engine,
        "images": label,
        "image_size": list(size),
        "threads": torch.get_num_threads(),
        "rows": rows,
        "float64_error": exact,
        "float64_limit": FLOAT64_LIMIT if exact is not None else None,
        "ok": holds,
        "provenance": provenance() | {"dtype": "float32"},
    }


def engine_rows(model: Any, engine: str, images: Tensor) -> list[dict[str, Any]]:
    """A row per output: the engine's error and the model's own noise, both beside the model in float64."""
    network = make_engine(engine, model, (images.shape[2], images.shape[3]))
    double = copy.deepcopy(model).double()
    with torch.inference_mode():
        found, plain, truth = network(images), model(images), double(images.double())
    rows = []
    for kind, ours, theirs, exact in zip(("class", "box"), found, plain, truth, strict=True):
        noise = max(relative_error(one, other) for one, other in zip(theirs, exact, strict=True))
        for level, one, other in zip(model.config.levels, ours, exact, strict=True):
            error = relative_error(one, other)
            limit = NOISE_FACTOR * noise
            name = f"{kind}_outputs/{level}"
            rows.append({"output": name, "error": error, "noise": noise, "limit": limit, "holds": error <= limit})
    return rows


def fast_error_in_float64(model: Any, images: Tensor) -> float:
    """The largest relative difference of the fast form from the model, both in float64."""
    exact = copy.deepcopy(model).double()
    with torch.inference_mode():
        found, expected = make_engine("fast", exact, (0, 0))(images.double()), exact(images.double())
    pairs = zip([*found[0], *found[1]], [*expected[0], *expected[1]], strict=True)
    return max(relative_error(one, other) for one, other in pairs)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """max |a - b| / max |b|; infinite when a value is NaN or shapes differ."""
    if found.shape != expected.shape or not bool(torch.isfinite(found).all()):
        return float("inf")
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max())


def engine_lines(record: dict[str, Any]) -> list[str]:
    """The record as text, the verdict first."""
    failed = [row["output"] for row in record["rows"] if not row["holds"]]
    name = f"{record['model']} by {record['engine']}"
    if record["ok"]:
        lines = [f"{name}: all {len(record['rows'])} outputs are the model's, within float32's noise"]
    else:
        lines = [f"{name}: {len(failed) or 'no'} outputs differ by more than rounding, first {(failed or ['-'])[0]}"]
    for row in record["rows"]:
        verdict = "" if row["holds"] else "   DIFFERS"
        lines.append(f"  {row['output']:18} error {row['error']:.1e}, limit {row['limit']:.1e}{verdict}")
    if record["float64_error"] is not None:
        lines.append(f"  in float64 {record['float64_error']:.1e}, limit {record['float64_limit']:.0e}")
    return lines
