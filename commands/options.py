"""Options that several commands share, and how results and errors are printed."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..errors import EffconvError

PATH = click.Path(path_type=Path)
ENGINES = ("eager", "fast", "compile", "onnxruntime", "openvino")  # those of `engines.py`, which imports torch


class CommandLine(click.Group):
    """A group that prints our own errors and warnings as a line or two on stderr, without a traceback or a place."""

    def invoke(self, context: click.Context) -> Any:
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if category.__module__.partition(".")[0] == EffconvError.__module__.partition(".")[0]:
                click.echo(f"effconv: warning: {message}", err=True)
            else:
                shown(message, category, *place, **more)

        try:
            with warnings.catch_warnings():
                warnings.showwarning = show
                return super().invoke(context)
        except EffconvError as error:
            click.echo(f"effconv: {error}", err=True)
            context.exit(error.exit_status)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--json`, which every command that reports has."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")(command)


def model_option(required: bool) -> Callable[..., Any]:
    """`--model`, by any of a model's names."""
    text = "d0..d7x, lite0..lite4, d2-640, d0-advprop, ... (see `effconv models`), or a .json configuration."
    return click.option("--model", required=required, help=text)


engine_option = click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="eager",
    show_default=True,
    help="Runs the network: as it is written, its fast form, that compiled, or another runtime.",
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Of the network's weights and arithmetic.",
)
nonfinite_option = click.option("--allow-nonfinite", is_flag=True, help="Take NaN and infinite weights as they are.")
verify_option = click.option("--verify/--no-verify", default=True, help="Check every checksum (default), or none.")


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    click.echo(json.dumps(value, indent=1))


def fetch_release(model: str, generation: str | None, verify: bool) -> Path:
    """Download (or find in the cache) a released checkpoint, saying on stderr what is done and how it was verified."""
    from ..convert.zoo import download, find_release
    from ..effdet_torch.config import get_config
    from ..progress import BYTES, progress

    release = find_release(get_config(model), generation)
    with progress(f"downloading {Path(release.path).name}", BYTES) as report:
        found = download(release, verify=verify, report=report)
    click.echo(f"{found.path}: {found.verification}", err=True)
    return found.path
