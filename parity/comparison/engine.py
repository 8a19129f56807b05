"""An engine's outputs beside the model's: `effconv parity --engine`.

The model in float64 is what parity proves equal to the official computation, to 1e-13. An engine in float32 may be off
by what rounding every layer once costs, times a factor (`limits.accumulated_limit`): neither the engine's nor the
model's own float32 has a part in that limit. It refuses a runtime that computes a layer or a shape of map otherwise;
what is smaller in a single layer is found by looking at the layers: the model's, and the fast form's parts, each by
itself.
"""

import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...convert.layers import layers
from ...effdet_torch.device import require_device
from ...effdet_torch.engines.engines import TORCH_ENGINES, make_engine
from ...effdet_torch.engines.fast import fast
from ...effdet_torch.model import EfficientDet
from ...errors import EffconvError
from ...strict_json import finite
from ..limits import FLOAT64_LIMIT, accumulated_limit
from ..provenance import provenance
from ..traces.candidate import Lockstep
from ..traces.images import noise
from .compare import precisions
from .engine_record import EngineRecord, OutputRow
from .fast_soundness import sound_parts
from .soundness import Soundness, sound_layers
from .subject import Choice, candidate_record, choose_images, choose_subject, load_candidate

SMALLEST = 32  # pixels along an axis


class Case(NamedTuple):
    """A batch of different images."""

    images: Tensor  # (B, 3, H, W)

    @property
    def name(self) -> str:
        """Such as "3 x 257x257"."""
        batch, _, height, width = self.images.shape
        return f"{batch} x {height}x{width}"


class Runner(NamedTuple):
    """An engine, one of `engines.ENGINES`, and the device it computes on."""

    engine: str
    device: str = "cpu"

    def require(self) -> None:
        """Raises EffconvError for a device that cannot be used, or not by that engine."""
        if self.device != "cpu" and self.engine not in TORCH_ENGINES:
            raise EffconvError(
                f"the engine {self.engine} computes on the CPU, found {self.device}; there are "
                f"{', '.join(TORCH_ENGINES)} for it",
                parameters={"device": "cpu"},
            )
        require_device(self.device)


def compare_engine(choice: Choice, fetch: Callable[[str], Path], runner: Runner, command: str) -> EngineRecord:
    """The record of an engine's outputs beside the model's in float64, for batches of 1, 3 and 8.

    What is compared with is computed on the CPU, whatever the engine's device is. Raises EffconvError.
    """
    runner.require()
    engine = runner.engine
    subject = choose_subject(choice, fetch)
    truth = subject.load()
    model = load_candidate(choice, subject, truth)
    if runner.device != "cpu":
        model = copy.deepcopy(model).to(runner.device)
    given, label = choose_images(choice, subject.config)
    cases = list(cases_of(torch.from_numpy(given)))
    unsound = unsound_layer(model, engine, cases[:2])
    rows: list[OutputRow] = []
    exact: float | None = None
    for case in cases:
        rows += engine_rows(model, engine, case, truth)
        if engine in ("fast", "compile"):
            exact = max(exact or 0.0, fast_error_in_float64(model, case.images))
    holds = all(row.holds for row in rows) and (exact is None or exact <= FLOAT64_LIMIT) and unsound is None
    return EngineRecord(
        what="an engine's outputs beside the model's in float64",
        command=command,
        model=subject.config.name,
        checkpoint=subject.checkpoint.name,
        candidate=candidate_record(choice, subject),
        engine=engine,
        images=label,
        cases=tuple(case.name for case in cases),
        threads=torch.get_num_threads(),
        layers_watched=watched(engine),
        first_unsound=unsound,
        rows=tuple(rows),
        float64_error=None if exact is None else finite(exact),
        float64_limit=FLOAT64_LIMIT if exact is not None else None,
        ok=holds,
        provenance=provenance() | {"dtype": "float32", "device": runner.device},
    )


def cases_of(image: Tensor) -> Iterator[Case]:
    """The image alone; three of about half its size, odd where it is even; eight of a quarter. (1, 3, H, W)."""
    yield Case(image)
    height, width = image.shape[2:]
    for batch, size in ((3, (height // 2 + 1, width // 2 + 1)), (8, (height // 4, width // 4))):
        size = max(size[0], SMALLEST), max(size[1], SMALLEST)
        yield Case(torch.from_numpy(np.concatenate([noise(100 + seed, size) for seed in range(batch)])))


def watched(engine: str) -> str:
    """Which layers are looked at one by one."""
    return {"eager": "the model's", "fast": "the model's and the fast form's"}.get(
        engine, "the model's; the engine's own cannot be watched, its outputs are"
    )


def unsound_layer(model: EfficientDet, engine: str, cases: list[Case]) -> str | None:
    """The first layer of the model, or part of the fast form, whose float32 is not sound by itself; None when all
    are."""
    networks = precisions(model)
    for case in cases:
        found: list[tuple[str, Soundness]] = []
        for key, _, sound in sound_layers(networks.single, networks.double, case.images.numpy()):
            found.append((key, sound))
        if engine in ("fast", "compile"):
            images = case.images.to(next(model.parameters()).device)
            found += [(f"the fast form's {name}", sound) for name, sound in sound_parts(fast(model), images)]
        for name, sound in found:
            if not sound.ok:
                return f"{name}, on {case.name}: its {sound.reason}"
    return None


def engine_rows(model: EfficientDet, engine: str, case: Case, truth: EfficientDet) -> list[OutputRow]:
    """A row per output: the error of the engine of `model` beside `truth` in float64, and what is allowed."""
    images = case.images
    network = make_engine(engine, model, (images.shape[2], images.shape[3]))
    exact, costs = expected_outputs(truth, images)
    with torch.inference_mode():
        found = network(images.to(next(model.parameters()).device))
    rows = []
    for kind, ours, theirs, cost in zip(("class", "box"), found, exact, costs, strict=True):
        limit = accumulated_limit(cost)
        for level, one, other in zip(model.config.levels, ours, theirs, strict=True):
            error = output_error(one, other)
            name = f"{kind}_outputs/{level}"
            holds = error <= limit < math.inf
            # Figures that are not finite are None: there is none to measure.
            rows.append(OutputRow(case=case.name, output=name, error=finite(error), limit=finite(limit), holds=holds))
    return rows


def expected_outputs(truth: EfficientDet, images: Tensor) -> tuple[tuple[list[Tensor], list[Tensor]], list[float]]:
    """(class logits and box codes by level in float64, what rounding every layer once costs the two heads' outputs).

    `images` (B, 3, H, W). A cost is relative to the largest value. Raises EffconvError when a head is not computed.
    """
    table = layers(truth.config)
    networks = precisions(truth)
    run = Lockstep(networks.rounded, images.numpy(), table, rounding=torch.float32)
    outputs = [layer.key for layer in table if layer.module in ("class_head.predict", "box_head.predict")]
    try:
        rounded = [run.at(key) for key in outputs]
    finally:
        run.close()
    exact = exact_outputs(networks.double, images)
    levels, costs = len(truth.config.levels), []
    for place, (kind, levelwise) in enumerate(zip(("class", "box"), exact, strict=True)):
        of_levels = []
        for once, other in zip(rounded[place * levels : (place + 1) * levels], levelwise, strict=True):
            if once is None:
                raise EffconvError(f"{truth.config.name}: {kind}_head.predict is not computed by this model")
            of_levels.append(output_error(torch.from_numpy(once).permute(0, 3, 1, 2), other))
        # The largest of a head's levels: of the few values of a small map, the largest is a matter of chance.
        costs.append(max(of_levels))
    return exact, costs


def exact_outputs(double: EfficientDet, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """(class logits, box codes) by level of a model in float64, on its device; `images` (B, 3, H, W)."""
    with torch.inference_mode():
        logits, codes = double(images.to(next(double.parameters())))
    return logits, codes


def fast_error_in_float64(model: EfficientDet, images: Tensor) -> float:
    """The largest relative difference of the fast form from the model, both in float64."""
    exact = copy.deepcopy(model).double()
    given = images.to(next(exact.parameters()))
    with torch.inference_mode():
        found, expected = make_engine("fast", exact, (0, 0))(given), exact(given)
    pairs = zip([*found[0], *found[1]], [*expected[0], *expected[1]], strict=True)
    return max(output_error(one, other) for one, other in pairs)


def output_error(found: Tensor, expected: Tensor) -> float:
    """An output's max |a - b| / max |b|; infinite for a NaN, for other shapes, or where b is zero and a is not.

    Where `expected` is, for that is where more of it is computed.
    """
    found = found.to(expected.device)
    if found.shape != expected.shape or not bool(torch.isfinite(found).all()):
        return float("inf")
    gap, scale = float((found.double() - expected.double()).abs().max()), float(expected.double().abs().max())
    return gap / scale if scale else (float("inf") if gap else 0.0)
