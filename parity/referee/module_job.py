"""`effconv parity --port, --module` as one job: find the weights, build the other network, compare."""

import importlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ...convert.namings.tensors import to_port
from ...effdet_torch.config import get_config
from ...effdet_torch.model import EfficientDet
from ...errors import EffconvError
from ...loading import load
from ..comparison.subject import Choice, Fetch, choose_images
from .graph_job import compare_graph_file
from .module_trace import compare_recording
from .ports import build_port, filled
from .referee import ModuleComparison, compare


class Theirs(NamedTuple):
    """The other network: a port that effconv builds and fills, what somebody's code returns, or a recording."""

    port: str | None = None
    module: str | None = None  # PACKAGE.MODULE:NAME
    arguments: str | None = None  # of NAME, a JSON object
    names: Path | None = None  # a JSON file {our layer's module: theirs}
    candidate_trace: Path | None = None  # what somebody recorded of their network, with its images
    graph: Path | None = None  # an ONNX file


def compare_with_module(choice: Choice, theirs: Theirs, fetch: Fetch, command: str, explain: bool) -> ModuleComparison:
    """Compare `theirs` with effconv's network of the checkpoint that `choice` names, on its images.

    Raises EffconvError for bad input, and where the other network cannot be built or run.
    """
    names = None if theirs.names is None else _names(theirs.names)
    if theirs.graph:
        return compare_graph_file(choice, theirs.graph, names or {}, fetch, command, explain)
    config = get_config(choice.model or "")
    checkpoint = choice.checkpoint or fetch(config.name)
    reference = load(checkpoint, model=choice.model, weights=choice.weights, verify=choice.verify)
    if theirs.candidate_trace:
        return compare_recording(theirs.candidate_trace, reference, names, command)
    size = choice.size or reference.config.image_size
    images, label = choose_images(choice._replace(size=size), reference.config)
    module = filled_port(theirs.port, reference, size) if theirs.port else built(theirs.module or "", theirs.arguments)
    return compare(
        module,
        reference,
        images=torch.from_numpy(images),
        images_label=label,
        names=names,
        explain=explain,
        command=command,
    )


def filled_port(name: str, reference: EfficientDet, size: tuple[int, int]) -> nn.Module:
    """A project's own network in float32, with the reference's weights put in by its naming table."""
    port, network = build_port(name, reference.config, size)
    state = {key: value.double().numpy() for key, value in reference.state_dict().items()}
    theirs = to_port(state, port.naming, reference.config)
    return filled(network, {key: value.astype("float32") for key, value in theirs.items()})


def built(name: str, arguments: str | None) -> nn.Module:
    """What calling `PACKAGE.MODULE:NAME` returns, in eval mode; a module of that name is taken as it is.

    Modules are found in the current folder too, as `python` finds them. Raises EffconvError.
    """
    module_name, _, attribute = name.partition(":")
    if not attribute:
        raise EffconvError(f"module {name}: expected PACKAGE.MODULE:NAME, such as mypackage.models:build")
    try:
        given = json.loads(arguments or "{}")
    except ValueError as error:
        raise EffconvError(f'arguments: not JSON ({error}); give an object, such as {{"compound": 0}}') from error
    if not isinstance(given, dict):
        raise EffconvError(f"arguments: expected a JSON object of keyword arguments, found {arguments}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        build = getattr(importlib.import_module(module_name), attribute)
        network = build if isinstance(build, nn.Module) else _called(build, given)
    except Exception as error:  # whatever their code does
        line = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise EffconvError(f"module {name}: cannot be built: {line}") from error
    if not isinstance(network, nn.Module):
        raise EffconvError(f"module {name}: expected a torch.nn.Module, found {type(network).__name__}")
    return network.eval()


def _called(build: Any, given: Mapping[str, Any]) -> Any:
    return build(**given) if callable(build) else build


def _names(path: Path) -> dict[str, str]:
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EffconvError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(names, dict) or not all(isinstance(value, str) for value in names.values()):
        raise EffconvError(f"{path}: expected an object {{our layer's module: theirs}}")
    return names
