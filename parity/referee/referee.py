"""Any PyTorch EfficientDet beside the official network: `effconv.compare` and `effconv parity --module, --port`."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...convert.layout import Array
from ...convert.namings.naming import Naming
from ...convert.namings.recognition import NAMINGS
from ...convert.namings.tensors import to_port
from ...effdet_torch.config import Config
from ...effdet_torch.model import EfficientDet
from ...errors import EffconvError, first_names
from ...loading import load
from ...progress import CHANGES, LAYERS, progress
from ...version import __version__
from ..comparison.explain import Explained, Explanation
from ..comparison.records import Candidate, Images, ModuleComparisonRecord, Reference, TapRow
from ..comparison.report import write_report
from ..comparison.rows import Row, first_failure
from ..comparison.subject import Choice, choose_images
from ..comparison.verdict import Sides, comparison_record
from .compare_module import compare_module, doubled, shape_of
from .explain_module import explain_module
from .pairing import by_names, by_table, by_values, by_weights, distinct
from .ports import filled
from .reference_run import OUTPUTS, ReferenceRun, in_float64, reference_run
from .taps import ModuleError, Tap


@dataclass(frozen=True, kw_only=True)
class ModuleComparison:
    """Another network beside effconv's: what `effconv.compare` returns."""

    rows: Sequence[Row]
    taps: Sequence[Tap]  # which module of theirs is which layer, and why
    unpaired: Sequence[str]  # our layers that no module of theirs gives by itself; they are part of the next one
    explanations: Sequence[Explanation]
    typed_record: ModuleComparisonRecord  # what the reports are made of

    @property
    def record(self) -> dict[str, Any]:
        """The whole comparison as JSON has it."""
        return self.typed_record.plain()

    @property
    def ok(self) -> bool:
        """Whether every layer holds."""
        return self.typed_record.ok

    @property
    def verdict(self) -> str:
        """One line."""
        return self.typed_record.verdict

    @property
    def first_fault(self) -> str | None:
        """Our name of the first layer at fault."""
        first = first_failure(list(self.rows))
        return first.layer.key if first else None

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write the whole comparison: `.html`, `.md` or `.json`. Raises EffconvError."""
        write_report(self.typed_record, Path(path))

    def pairing_lines(self) -> list[str]:
        """How layers were paired, and which of ours are none of their modules, in a few lines."""
        evidence = Counter(re.sub(r"( to|,) \d.*", "", tap.evidence) for tap in self.taps)
        kinds = ", ".join(f"{count} because {what}" for what, count in evidence.items())
        lines = [f"{len(self.taps)} layers were found in it: {kinds}"]
        if self.unpaired:
            lines.append(
                f"{len(self.unpaired)} were not, and are compared as part of the next that was: "
                f"{first_names(self.unpaired)}"
            )
        return lines

    def __str__(self) -> str:
        mistakes = (f"; {each.change} from {each.from_layer} on ({each.summary})" for each in self.explanations)
        return f"{self.typed_record.model}: {self.verdict}{''.join(mistakes)}"


def compare(
    module: nn.Module,
    reference: EfficientDet | str | os.PathLike[str],
    *,
    model: str | Config | None = None,
    images: Tensor | NDArray[np.floating] | str | os.PathLike[str] | None = None,
    size: tuple[int, int] | None = None,
    names: Mapping[str, str] | None = None,
    port: str | None = None,
    explain: bool = True,
    images_label: str | None = None,
    command: str = "effconv.compare",
) -> ModuleComparison:
    """Compare `module`, anybody's EfficientDet with its weights in it, with the official network, layer by layer.

    `reference` has the weights it should have: an effconv model, or a file that `effconv.load` takes (with `model`).
    `images` are (B, 3, H, W), normalised, or a photograph's path; noise of `size` (H, W; the model's) where left out.

    Layers are paired by `names`, {our layer's module: theirs}; by the naming table of `port` ("effdet", "zylo117",
    "pytorch-tools", "mmdetection"), which is recognised by the module's own keys; and what neither says, by value: a
    module that has one of our weights is that layer, and one that gives one of our values where it is given our
    input. `explain` tries the known porting mistakes, one after another.

    Raises EffconvError when the network cannot be run, or no layer of it is found.
    """
    if not isinstance(reference, EfficientDet):
        reference = load(reference, model=model)
    config = reference.config
    pictures, pictures_label = _images(images, config, size)
    naming = NAMINGS[port] if port else _recognised(module)
    run = reference_run(in_float64(reference), pictures)
    double = _double(module, reference, naming)
    taps = _paired(module, double, reference, run, naming, names)
    if not taps:
        raise ModuleError(
            f"{type(module).__name__}: no layer of {config.name} is found in it, by its keys, weights or values; "
            "does it have the reference's weights? Else say which module is which, {ours: theirs}",
            parameters={"names": None},
        )
    with progress("comparing", LAYERS) as report:
        rows = with_outputs(compare_module(module, double, reference, run, taps, report), run)
    explained = Explained()
    if explain and first_failure(rows):
        with progress("explaining", CHANGES) as report:
            explained = explain_module(double, reference, run.images, rows, taps, report)
    label = f"{type(module).__module__}.{type(module).__name__}, PyTorch {torch.__version__}"
    shown = Shown(label, images_label or pictures_label, command)
    return comparison_of(run, rows, taps, explained, config, shown)


def with_outputs(rows: Sequence[Row], run: ReferenceRun) -> list[Row]:
    """`rows`, and a failing one for each output of the network that was not found.

    Another layer that is not found is compared as part of the next one that is; after the outputs comes none.
    """
    of_layers = {row.layer.key: row for row in rows}
    for layer in run.table:
        if layer.module in OUTPUTS and layer.key not in of_layers:
            fault = "not found in it, by name, weights or values; say which it is"
            of_layers[layer.key] = Row(layer, shape_of(run, layer), {}, {"accumulated": fault})
    return [of_layers[layer.key] for layer in run.table if layer.key in of_layers]


class Shown(NamedTuple):
    """How a record names what was compared."""

    candidate: str
    images: str
    command: str


def comparison_of(
    run: ReferenceRun,
    rows: Sequence[Row],
    taps: Sequence[Tap],
    explained: Explained,
    config: Config,
    shown: Shown,
) -> ModuleComparison:
    """Rows of another network, with how its layers were paired, as one comparison."""
    tapped = {tap.layer.key for tap in taps}
    unpaired = [layer.key for layer in distinct(run) if layer.key not in tapped]
    batch, channels, height, width = run.images.shape
    sides = Sides(
        reference=Reference.of({"kind": "effconv", "label": f"effconv {__version__}'s network in float64"}),
        candidate=Candidate(label=shown.candidate),
        images=Images(label=shown.images, shape=(batch, channels, height, width)),
    )
    common = comparison_record(config.name, rows, (), explained, sides, shown.command)
    record = ModuleComparisonRecord(
        **{field.name: getattr(common, field.name) for field in fields(common)},
        pairing=tuple(
            TapRow(layer=tap.layer.key, module=tap.module, call=tap.call, evidence=tap.evidence) for tap in taps
        ),
        unpaired=tuple(unpaired),
    )
    return ModuleComparison(
        rows=rows, taps=taps, unpaired=unpaired, explanations=explained.explanations, typed_record=record
    )


def _images(images: Any, config: Config, size: tuple[int, int] | None) -> tuple[Tensor, str]:
    if isinstance(images, (str, os.PathLike)):
        array, label = choose_images(Choice(image=Path(images), size=size), config)
        return torch.from_numpy(array), label
    if images is None:
        array, label = choose_images(Choice(size=size), config)
        return torch.from_numpy(array), label
    if size is not None:
        raise EffconvError("images of your own have their size; leave the other out", parameters={"size": None})
    given = torch.as_tensor(images).detach().cpu().float()
    if given.ndim != 4 or given.shape[1] != 3:
        raise EffconvError(f"images: expected (B, 3, H, W), found {tuple(given.shape)}")
    return given, f"{len(given)} of your own"


def _recognised(module: nn.Module) -> Naming | None:
    """The port whose keys the module has."""
    keys = set(module.state_dict())
    return next((naming for naming in NAMINGS.values() if keys.issuperset(naming.signs)), None)


def _double(module: nn.Module, reference: EfficientDet, naming: Naming | None) -> nn.Module:
    """The module in float64.

    A port's tensor may be ours with something added, rounded to float32 once: where that is what it holds, the float64
    copy gets the number before rounding. Otherwise rounding would look like another function.
    """
    double = doubled(module)
    if naming is None or not naming.models(reference.config):
        return double
    state: dict[str, Array] = {
        key: value.detach().cpu().double().numpy() for key, value in reference.state_dict().items()
    }
    exact = to_port(state, naming, reference.config)
    held = {key: value.detach().cpu().numpy() for key, value in module.state_dict().items()}
    counters = {key for key in held if key.endswith("num_batches_tracked")}
    if exact.keys() != held.keys() - counters:
        return double
    if all(np.array_equal(np.asarray(value, held[key].dtype), held[key]) for key, value in exact.items()):
        return filled(double, {key: np.asarray(value, np.float64) for key, value in exact.items()})
    return double


def _paired(
    module: nn.Module,
    double: nn.Module,
    model: EfficientDet,
    run: ReferenceRun,
    naming: Naming | None,
    names: Mapping[str, str] | None,
) -> list[Tap]:
    """Taps by names, by table and by value, in this order; each layer once, in the order of computation."""
    taps: dict[str, Tap] = {}

    def take(more: Sequence[Tap]) -> None:
        taken = {(tap.module, tap.call) for tap in taps.values()}
        for tap in more:
            if (tap.module, tap.call) not in taken:
                taps.setdefault(tap.layer.key, tap)

    if names:  # what somebody says of their own network goes before what its keys say
        take(by_names(names, model.config, run.table, module))
    if naming:
        take(by_table(naming, model.config, run.table, module))
    if not naming:
        take(by_weights(model, run.table, module))
    if taps:
        take(by_values(double, run, list(taps.values())))
    return [taps[layer.key] for layer in run.table if layer.key in taps]
