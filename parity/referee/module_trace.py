"""Activations that somebody recorded of their own network, beside the official one (docs/trace.md has the format)."""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...convert.layers import Layer
from ...convert.namings.recognition import NAMINGS
from ...effdet_torch.config import Config
from ...effdet_torch.model import EfficientDet
from ...errors import EffconvError, first_names
from ..comparison.explain import Explained
from ..comparison.rows import Check, Row
from ..difference import difference, fault_of, largest
from ..traces.stored_array import read_array
from .compare_module import channels_last, float32_limits, shape_of
from .pairing import distinct
from .referee import ModuleComparison, Shown, comparison_of
from .reference_run import ReferenceRun, in_float64, reference_run
from .settle import comparable, reference_of
from .taps import Tap

IMAGES = "images"
CALL = "#"  # NAME#1 is the second call of NAME
HINT = "record it as docs/trace.md says"


class Recorded(NamedTuple):
    """What a file holds."""

    images: Tensor  # (B, 3, H, W)
    outputs: Mapping[str, Tensor]  # by the recorder's names, in the order of computation


def read_recording(path: Path) -> Recorded:
    """Read a recording. Raises EffconvError, naming the member, for anything that is not in the format."""
    if not path.is_file():
        raise EffconvError(f"{path}: no such file")
    arrays: dict[str, NDArray[np.float32]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                name = member.removesuffix(".npy")
                try:
                    arrays[name] = read_array(archive, name, path.stat().st_size)
                except (KeyError, ValueError, RuntimeError) as error:
                    raise EffconvError(f"{path}: {name} cannot be read ({error}); {HINT}") from error
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise EffconvError(f"{path}: not a readable archive ({type(error).__name__}); {HINT}") from error
    images = arrays.pop(IMAGES, None)
    if images is None or images.ndim != 4 or images.shape[1] != 3 or not images.size:
        raise EffconvError(f"{path}: expected {IMAGES} of (B, 3, H, W); {HINT}")
    wrong = [name for name, array in arrays.items() if array.dtype != np.float32 or not array.size]
    if wrong or not arrays:
        raise EffconvError(f"{path}: expected activations in float32; {first_names(wrong) or 'none'} found; {HINT}")
    return Recorded(torch.from_numpy(images), {name: torch.from_numpy(array) for name, array in arrays.items()})


def compare_recording(
    path: Path, reference: EfficientDet, names: Mapping[str, str] | None, command: str
) -> ModuleComparison:
    """Every recorded activation that is a layer of ours, beside ours on the recorded images, from the images on.

    A name is our layer's or our module's, one of a port whose naming effconv has, or one that `names` {ours: theirs}
    says; an activation with another name is taken for the one layer whose values it has. Raises EffconvError.
    """
    recorded = read_recording(path)
    run = reference_run(in_float64(reference), recorded.images)
    limits = float32_limits(reference, recorded.images)
    taps = _paired(recorded, run, reference.config, names, limits)
    if not taps:
        raise EffconvError(
            f"{path}: none of its {len(recorded.outputs)} activations is a layer of {reference.config.name}, by name "
            f"or value; it begins with {first_names(list(recorded.outputs))}",
            parameters={"names": None},
        )
    rows = [_row(tap, recorded.outputs[_name(tap)], run, limits) for tap in taps]
    return comparison_of(run, rows, taps, Explained(), reference.config, Shown(path.name, "of the recording", command))


def _row(tap: Tap, output: Tensor, run: ReferenceRun, limits: Mapping[str, float]) -> Row:
    value, shape = run.values[tap.layer.key], shape_of(run, tap.layer)
    if not comparable(output, value):
        found = f"shape {tuple(output.shape)}, in effconv {tuple(value.shape)}"
        return Row(tap.layer, shape, {}, {"accumulated": found})
    value = reference_of(run, tap.layer.key, output)
    own, ours = channels_last(output.reshape(value.shape)), channels_last(value)
    if fault := fault_of(own, "recording"):
        return Row(tap.layer, shape, {}, {"accumulated": fault})
    check = Check(difference(own, ours, largest(ours)), limits[tap.layer.key])
    return Row(tap.layer, shape, {"float32 accumulated": check}, {})


def _paired(
    recorded: Recorded,
    run: ReferenceRun,
    config: Config,
    names: Mapping[str, str] | None,
    limits: Mapping[str, float],
) -> list[Tap]:
    """Each layer at most once, in the order of computation."""
    taps: dict[str, Tap] = {}

    def take(paths: Mapping[str, str], evidence: str) -> None:
        for layer in run.table:
            call = 0 if layer.level is None else config.levels.index(layer.level)
            tap = Tap(layer, paths.get(layer.module, ""), call, evidence)
            if _name(tap) in recorded.outputs:
                taps.setdefault(layer.key, tap)

    take(names or {}, "you say so")
    take({layer.module: layer.module for layer in run.table}, "it has our name")
    for naming in NAMINGS.values():
        if naming.models(config):
            pairs = dict(naming.functions(config)) | dict(naming.modules(config))
            pairs |= {
                ours.removesuffix(".pointwise"): theirs
                for ours, theirs in pairs.items()
                if ours.endswith(".predict.pointwise")
            }
            # A convolution without the bias that its norm makes up for is another layer by itself.
            paths = {ours: path for ours, path in pairs.items() if not naming.lacks_bias(f"{ours}.bias")}
            take(paths, f"the naming table of {naming.port} says so")
    for tap in _by_value(recorded, run, taps, limits):
        taps.setdefault(tap.layer.key, tap)
    return [taps[layer.key] for layer in run.table if layer.key in taps]


def _by_value(recorded: Recorded, run: ReferenceRun, taps: Mapping[str, Tap], limits: Mapping[str, float]) -> list[Tap]:
    """Activations whose values are one layer's within rounding, and no other's; nor are another activation's."""
    used = {_name(tap) for tap in taps.values()}
    fits: dict[str, list[Layer]] = {}
    seen: set[bytes] = set()
    for name, output in recorded.outputs.items():
        content = hashlib.sha256(output.numpy().tobytes()).digest()
        if name in used or content in seen:  # a part and its whole give the same; the part is recorded first
            continue
        seen.add(content)
        fits[name] = [
            layer
            for layer in distinct(run)
            if layer.key not in taps and _equal(output, run, layer.key, limits[layer.key])
        ]
    claimed = [layers[0].key for layers in fits.values() if len(layers) == 1]
    return [
        Tap(layers[0], *_split(name), "its values are ours")
        for name, layers in fits.items()
        if len(layers) == 1 and claimed.count(layers[0].key) == 1
    ]


def _equal(output: Tensor, run: ReferenceRun, key: str, limit: float) -> bool:
    if not comparable(output, run.values[key]):
        return False
    value = reference_of(run, key, output)
    apart = (output.reshape(value.shape) - value).abs().max()
    return bool(apart <= limit * value.abs().max())


def _name(tap: Tap) -> str:
    return f"{tap.module}{CALL}{tap.call}" if tap.call else tap.module


def _split(name: str) -> tuple[str, int]:
    path, _, call = name.rpartition(CALL)
    return (path, int(call)) if path and call.isdecimal() else (name, 0)
