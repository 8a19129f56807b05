"""Which released checkpoint is this? Answered by the checksum of every tensor, without reading the tensors.

`results/fingerprints/*.json` hold the masked crc32c values of released checkpoints, as their own index files store
them: per variable the raw value's and the moving average's.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from ..effdet_torch.config import Config, get_config
from .apply import EMA_SUFFIX, apply_inverse, container_name
from .layout import Array
from .rules import rules
from .sources import Checkpoint, Container, checksum


class Released(NamedTuple):
    """A released checkpoint that can be recognised. `checksums` maps TF1 names, averages included, to crc32c values."""

    label: str
    model: str
    generation: str
    checksums: dict[str, int]


class Agreement(NamedTuple):
    """How many of the tensors of a known checkpoint a file has, bit for bit."""

    label: str
    equal: int
    total: int


class Identification(NamedTuple):
    """`released` is the checkpoint whose every tensor agrees, or None; `agreements` are all, nearest first."""

    released: Released | None
    agreements: list[Agreement]


@cache
def known_checkpoints() -> tuple[Released, ...]:
    """All checkpoints that `results/fingerprints/` describes."""
    folder = resources.files(__package__.partition(".")[0]) / "results" / "fingerprints"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)
    return tuple(_released(json.loads(file.read_text(encoding="utf-8"))) for file in files)


def _released(data: dict[str, Any]) -> Released:
    checksums = {name: int(crc, 16) for name, crc in data["other"].items()}
    for name, (raw, average) in data["variables"].items():
        checksums[name] = int(raw, 16)
        checksums[name + EMA_SUFFIX] = int(average, 16)
    return Released(data["label"], data["model"], data["generation"], checksums)


def identify(checkpoint: Checkpoint) -> Identification:
    """Compare a checkpoint with every known one. Needs the index alone, except for `.h5`, whose tensors are read.

    A file agrees with a known checkpoint through all its tensors, averages included, or, when it holds one set of
    weights (`.h5`, Keras, an exported SavedModel), through each variable's value being the average or the raw one.
    """
    checksums = checkpoint.checksums()
    agreements, released = [], None
    for known in known_checkpoints():
        agreement = max(_all_tensors(checksums, known), _one_set(checkpoint.container, checksums, known), key=_ratio)
        agreements.append(agreement)
        if agreement.equal == agreement.total:
            released = known
    agreements.sort(key=lambda row: (-_ratio(row), row.label))
    return Identification(released, agreements)


def identify_state(state: Mapping[str, Array], config: Config, source: str) -> Identification:
    """Compare a whole state dict under our names, whatever file it is from, with every known checkpoint.

    Checksums are of values in TensorFlow's layout, so that they do not depend on names. An agreement is with a
    checkpoint's raw weights or its moving averages, whichever more tensors have. Raises IncompleteConversion.
    """
    values = {
        name: checksum(np.ascontiguousarray(array)) for name, array in apply_inverse(state, config, source).items()
    }
    agreements, released = [], None
    for known in known_checkpoints():
        names = [rule.tf for rule in rules(get_config(known.model))]
        for kind, suffix in (("moving averages", EMA_SUFFIX), ("raw weights", "")):
            equal = sum(values.get(name) == known.checksums[name + suffix] for name in names)
            agreements.append(Agreement(f"{known.label}, {kind}", equal, len(names)))
            released = known if equal == len(names) else released
    agreements.sort(key=lambda row: (-_ratio(row), row.label))
    return Identification(released, agreements)


def _ratio(agreement: Agreement) -> float:
    return agreement.equal / agreement.total


def _all_tensors(checksums: dict[str, int], known: Released) -> Agreement:
    equal = sum(checksums.get(name) == crc for name, crc in known.checksums.items())
    return Agreement(known.label, equal, len(known.checksums))


def _one_set(container: Container, checksums: dict[str, int], known: Released) -> Agreement:
    table = rules(get_config(known.model))
    equal = 0
    for rule in table:
        values = known.checksums[rule.tf], known.checksums[rule.tf + EMA_SUFFIX]
        equal += checksums.get(container_name(container, rule)) in values
    return Agreement(known.label, equal, len(table))
