"""Other projects' own networks judged layer by layer, and the judge himself: planted faults, clean runs, lost names.

    python tools/record_referee.py FOLDER

FOLDER has the ports' sources (`port_classes.py` says where from). Weights are random, as large as trained ones
(`record_ports.py`). Writes results/measured/referee.json; exits with status 1 where a fault is missed, a layer is named
wrongly, a clean run fails, or a module is paired wrongly. Takes about ten minutes.
"""

import hashlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from effdet_plants import PLANTS, Plant
from port_classes import find_sources, size_of
from record_ports import calibrated
from subjects import MEASURED
from torch import Tensor, nn

from effconv.convert.namings.naming import places
from effconv.convert.namings.tensors import to_port
from effconv.effdet_torch.config import VARIANTS, Config
from effconv.effdet_torch.model import EfficientDet
from effconv.parity.provenance import provenance
from effconv.parity.referee.module_job import filled_port
from effconv.parity.referee.pairing import by_table, distinct
from effconv.parity.referee.ports import PORTS, Port, build_port, filled
from effconv.parity.referee.records import CleanRun, JudgedNetwork, PairedByValue, PlantedFault, RefereeRecord
from effconv.parity.referee.referee import ModuleComparison, compare
from effconv.parity.referee.reference_run import in_float64, reference_run
from effconv.parity.rendering.record import write_record

MODELS = ("efficientdet-d0", "efficientdet-d1", "efficientdet-d3", "efficientdet-lite0")
CLEAN_RUNS = 10
ENOUGH = 0.9  # of the layers that compute a value of their own, paired without a name


def reference(config: Config, seed: int = 0) -> tuple[EfficientDet, Tensor]:
    """(effconv's network with weights as large as trained ones, images)."""
    size = size_of(config)
    images = torch.from_numpy(np.random.default_rng(seed).standard_normal((2, 3, size, size)))
    return calibrated(config, images).float(), images[:1].float()


def judged(name: str, module: nn.Module, model: EfficientDet, images: Tensor) -> JudgedNetwork:
    """The row of a network."""
    found = compare(module, model, images=images)
    row = JudgedNetwork(
        network=name,
        model=model.config.name,
        images=tuple(images.shape),
        layers=len(found.rows),
        hold=sum(row.ok for row in found.rows),
        part_of_the_next=len(found.unpaired),
        first_fault=found.first_fault,
        mistakes=tuple(each.change for each in found.explanations),
        explained=found.ok or bool(found.explanations and found.explanations[-1].explains),
        outputs=largest_output_error(found),
    )
    print(row, flush=True)
    return row


def largest_output_error(found: ModuleComparison) -> float:
    """Of class logits and box codes of every level, from the images on, in float64, by the largest of its level."""
    outputs = [row for row in found.rows if ".predict" in row.layer.key and not row.layer.key.endswith("depthwise")]
    return max(row.checks["float64 accumulated"].difference.error for row in outputs if row.layer.level is not None)


def by_name_alone(port: Port, model: EfficientDet, size: tuple[int, int]) -> nn.Module:
    """The port's network with the tensors of the same meaning as they are: nothing folded, nothing added."""
    _, network = build_port(port.naming.name, model.config, size)
    state = {key: value.double().numpy() for key, value in model.state_dict().items()}
    theirs = to_port(state, port.naming, model.config)
    plain = {place.theirs: state[place.ours] for place in places(port.naming, model.config) if place.theirs in theirs}
    same = {
        key: plain[key] if key in plain and plain[key].shape == value.shape else value for key, value in theirs.items()
    }
    return filled(network, {key: np.asarray(value, np.float32) for key, value in same.items()})


def ports() -> Iterator[JudgedNetwork]:
    """Every port's network as it is, with the weights that effconv converts for it."""
    for config in (VARIANTS[name] for name in MODELS):
        model, images = reference(config)
        size = (images.shape[2], images.shape[3])
        for name, port in PORTS.items():
            if port.models(config):
                yield judged(port.naming.port, filled_port(name, model, size), model, images)
    model, images = reference(VARIANTS[MODELS[0]])
    port = PORTS["pytorch-tools"]
    copied = by_name_alone(port, model, (images.shape[2], images.shape[3]))
    yield judged(f"{port.naming.port}, tensors copied as they are", copied, model, images)


def planted(plant: Plant) -> PlantedFault:
    """The row of one fault in effdet's network."""
    model, images = reference(VARIANTS[MODELS[0]])
    module = filled_port("effdet", model, (images.shape[2], images.shape[3]))
    plant.make(module)
    found = compare(module, model, images=images)
    mistakes = tuple(each.change for each in found.explanations)
    row = PlantedFault(
        fault=plant.what,
        detected=not found.ok,
        first_fault=found.first_fault,
        expected=plant.layer,
        named=found.first_fault == plant.layer,
        mistakes=mistakes,
        known_as=plant.change,
        explained=plant.change is None or plant.change in mistakes,
    )
    print(row, flush=True)
    return row


def clean(seed: int) -> CleanRun:
    """A run of effdet's network as it is, on weights and images of a seed."""
    model, images = reference(VARIANTS[MODELS[0]], seed)
    found = compare(filled_port("effdet", model, (images.shape[2], images.shape[3])), model, images=images)
    return CleanRun(seed=seed, ok=found.ok, layers=len(found.rows))


class Renamed(nn.Module):
    """A network none of whose modules has a name that says anything."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Any:
        return self.inner(images)

    def named_modules(self, *arguments: Any, **options: Any) -> Iterator[tuple[str, nn.Module]]:
        """The modules, by digests of their paths."""
        for path, module in super().named_modules(*arguments, **options):
            yield (hashlib.sha256(path.encode()).hexdigest()[:12] if path else "", module)


def without_names() -> PairedByValue:
    """How much of effdet is paired by value alone, and whether any of it wrongly."""
    model, images = reference(VARIANTS[MODELS[0]])
    module = filled_port("effdet", model, (images.shape[2], images.shape[3]))
    run = reference_run(in_float64(model), images)
    table = {
        (tap.layer.key): dict(module.named_modules())[tap.module]
        for tap in by_table(PORTS["effdet"].naming, model.config, run.table, module)
    }
    renamed = Renamed(module)
    modules = dict(renamed.named_modules())
    found = compare(renamed, model, images=images, explain=False)
    wrong = [
        tap.layer.key
        for tap in found.taps
        if tap.layer.key in table
        and modules[tap.module] is not table[tap.layer.key]
        # A part that gives what the whole gives is the same layer.
        and modules[tap.module] not in list(table[tap.layer.key].modules())
    ]
    own = distinct(run)
    row = PairedByValue(
        layers=len(own),
        paired=sum(tap.layer.key in {layer.key for layer in own} for tap in found.taps),
        wrong=tuple(wrong),
        ok=found.ok,
    )
    print(row, flush=True)
    return row


def versions(folder: Path) -> dict[str, str]:
    """Which version or commit of each project was run."""
    found = {name: importlib.metadata.version(name) for name in ("effdet", "timm")}
    for name in ("zylo117", "pytorch-tools"):
        command = ["git", "-C", str(folder / name), "rev-parse", "HEAD"]
        found[name] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return found


def main(folder: str) -> None:
    """Write the record."""
    find_sources(Path(folder))
    record = RefereeRecord(
        what="other projects' networks beside effconv's, layer by layer, and faults planted in effdet's",
        command="python tools/record_referee.py FOLDER",
        versions=versions(Path(folder)),
        without_names=without_names(),
        ports=tuple(ports()),
        clean=tuple(clean(seed) for seed in range(CLEAN_RUNS)),
        planted=tuple(planted(plant) for plant in PLANTS),
        provenance=provenance(),
    )
    write_record(record.plain(), MEASURED / "referee.json")
    names = record.without_names
    right = (
        all(row.detected and row.named and row.explained for row in record.planted)
        and all(row.ok for row in record.clean)
        and not names.wrong
        and names.paired >= ENOUGH * names.layers
    )
    sys.exit(not right)


if __name__ == "__main__":
    main(*sys.argv[1:])
