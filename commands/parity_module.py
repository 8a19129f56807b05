"""`effconv parity --port, --module`: another PyTorch network beside effconv's."""

import importlib
import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ..errors import EffconvError
from .options import fetch_release, parse_size, print_json

if TYPE_CHECKING:
    from torch import nn

    from ..effdet_torch.model import EfficientDet


def parity_of_module(
    theirs: dict[str, Any], subject: dict[str, Any], generation: str | None, shown: dict[str, Any]
) -> NoReturn:
    """Compare, print, and exit with status 1 where a layer differs.

    `theirs` says what to build (`port`, or `module` with `arguments`; `names`), `subject` the model, its weights and
    the images, `shown` what to print.
    """
    import torch

    from ..effdet_torch.config import get_config
    from ..loading import load
    from ..parity.comparison.report import print_comparison, require_report_kind
    from ..parity.comparison.subject import Choice, choose_images
    from ..parity.comparison.verdict import without_pictures
    from ..parity.referee.referee import compare

    if shown["report"]:
        require_report_kind(shown["report"])
    names = _names(theirs["names"]) if theirs["names"] else None
    config = get_config(subject["model"])
    checkpoint = subject["ckpt"] or fetch_release(config.name, generation, subject["verify"])
    reference = load(checkpoint, model=subject["model"], weights=subject["weights"], verify=subject["verify"])
    size = parse_size(subject["size"]) if subject["size"] else reference.config.image_size
    choice = Choice(image=subject["image"], noise_seed=subject["noise_seed"], size=size)
    images, label = choose_images(choice, reference.config)
    module = _port(theirs["port"], reference, size) if theirs["port"] else _built(theirs["module"], theirs["arguments"])
    found = compare(
        module,
        reference,
        images=torch.from_numpy(images),
        images_label=label,
        names=names,
        explain=shown["explain"],
        command=shlex.join(["effconv", *sys.argv[1:]]),
    )
    if shown["report"]:
        found.report(shown["report"])
    if shown["as_json"]:
        print_json(without_pictures(found.record))
    else:
        print_comparison(found.record, shown["layerwise"])
        for line in found.pairing_lines():
            click.echo(line)
        if shown["explain"] and not found.ok and not found.explanations:
            click.echo("not explained: no known porting mistake moves the first difference")
    sys.exit(0 if found.ok else 1)


def _port(name: str, reference: "EfficientDet", size: tuple[int, int]) -> "nn.Module":
    """A project's own network, with the reference's weights put in by its naming table."""
    from ..convert.namings.tensors import to_port
    from ..parity.referee.ports import build_port, filled

    port, network = build_port(name, reference.config, size)
    state = {key: value.double().numpy() for key, value in reference.state_dict().items()}
    theirs = to_port(state, port.naming, reference.config)
    return filled(network, {key: value.astype("float32") for key, value in theirs.items()})


def _built(name: str, arguments: str | None) -> "nn.Module":
    """What calling `PACKAGE.MODULE:NAME` returns. Modules are found beside the caller too, as `python` finds them."""
    from torch import nn

    module_name, _, attribute = name.partition(":")
    if not attribute:
        raise EffconvError(f"--module {name}: expected PACKAGE.MODULE:NAME, such as mypackage.models:build")
    try:
        given = json.loads(arguments or "{}")
    except ValueError as error:
        raise EffconvError(f"--args: not JSON ({error}); give an object, such as '{{\"compound\": 0}}'") from error
    if not isinstance(given, dict):
        raise EffconvError(f"--args: expected a JSON object of keyword arguments, found {arguments}")
    sys.path.insert(0, os.getcwd())
    try:
        build = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise EffconvError(f"--module {name}: cannot be imported: {error}") from error
    try:
        network = build(**given) if callable(build) and not isinstance(build, nn.Module) else build
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        raise EffconvError(f"--module {name}: calling it stopped: {type(error).__name__} {line}") from error
    if not isinstance(network, nn.Module):
        raise EffconvError(f"--module {name}: expected a torch.nn.Module, found {type(network).__name__}")
    return network.eval()


def _names(path: Path) -> dict[str, str]:
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EffconvError(f"--names {path}: cannot be read as JSON: {error}") from error
    if not isinstance(names, dict) or not all(isinstance(value, str) for value in names.values()):
        raise EffconvError(f"--names {path}: expected an object {{our layer's module: theirs}}")
    return names
