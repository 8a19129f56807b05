"""Options that several commands share, and how results are printed."""

import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import EffconvError
from ..strict_json import json_text

if TYPE_CHECKING:
    from ..convert.output_kinds import Kind

PATH = click.Path(path_type=Path)
AS_JSON = "effconv.as_json"  # in a context's `meta`, for the group that prints errors
FORCED = "effconv.force"  # in a command's context: whether files of others may be replaced
COMMAND = "effconv.command"  # the one that runs, of a group's too
LARGEST_SIDE = 65536  # of an input; a picture that large fits no memory


class Number(click.FloatRange):
    """A number of a range; unlike click's, which lets them pass, NaN and infinity are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


class Output(click.Path):
    """A file to be written, with one of `endings` if there are any, or a folder: refused before any work is done.

    A file that is there already must be of `kind`, which names one of `convert.output_kinds`, or --force be given. What
    is written into a folder is known to each command alone, which calls `keep_others`.
    """

    def __init__(self, *endings: str, kind: str = "", folder: bool = False):
        super().__init__(path_type=Path)
        self.endings, self.kind, self.folder = endings, kind, folder

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path. Raises EffconvError for an ending that is none of ours, and where nothing can or may be written."""
        from ..convert import output_kinds
        from ..convert.output import require_place

        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if self.endings and path.suffix.lower() not in self.endings:
            name = param.opts[-1] if param else "the output"
            raise EffconvError(f"{name} {path}: expected a file ending in {', '.join(self.endings)}")
        require_place(path, folder=self.folder)
        if self.kind:
            keep_others({path: getattr(output_kinds, self.kind)})
        return path


def keep_others(outputs: "Mapping[Path, Kind]") -> None:
    """Raises EffconvError naming the first of `outputs` where a file is that effconv did not write, without --force."""
    from ..convert.output_kinds import may_replace

    if click.get_current_context().meta.get(FORCED):
        return
    for path, kind in outputs.items():
        if not may_replace(path, kind):
            raise EffconvError(
                f"{path}: exists, and is not {kind.name} that effconv wrote; choose another output, or replace it with "
                "--force"
            )


def _remember_force(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.meta[FORCED] = value


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--json`, which every command that reports has."""

    def keep(context: click.Context, option: click.Parameter, value: bool) -> bool:
        context.meta[AS_JSON], context.meta[COMMAND] = value, context.command
        return value

    text = "Print one JSON object instead of text."
    return click.option("--json", "as_json", is_flag=True, help=text, callback=keep)(command)


def model_option(required: bool) -> Callable[..., Any]:
    """`--model`, by any of a model's names."""
    text = "Model by name (d0..d7x, lite0..lite4, d2-640, ...; `effconv models` lists all) or a .json configuration."
    return click.option("--model", required=required, help=text)


precision_option = click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Precision of the network's weights and arithmetic.",
)
CONTAINERS = ("tf1", "h5", "keras")  # those of `saving.py`, which is imported late


def container_option(text: str) -> Callable[..., Any]:
    """`--container`, in which TensorFlow's weights are written."""
    return click.option("--container", type=click.Choice(CONTAINERS), help=text)


def function_option(whose: str) -> Callable[..., Any]:
    """`--function`, of a file of weights whose port computes another function with the same tensors."""
    text = f"Function {whose}'s weights were trained in, for ports that compute another; default: told by the values."
    return click.option("--function", type=click.Choice(["port", "official"]), help=text)


num_classes_option = click.option(
    "--num-classes", type=click.IntRange(min=1), help="Refuse a file of weights with another number of classes."
)


def require_classes(file: Path, wanted: int | None, found: int) -> None:
    """Raise CheckpointError where a number of classes is wanted and a file has another."""
    from ..errors import CheckpointError

    if wanted not in (None, found):
        raise CheckpointError(f"{file}: expected {wanted} classes, found {found}")


nonfinite_option = click.option(
    "--allow-nonfinite", is_flag=True, help="Accept NaN and infinite weights, which are refused otherwise."
)
verify_option = click.option(
    "--verify/--no-verify", default=True, help="Check every checksum of the checkpoint (default), or none."
)
# Eager: outputs are looked at when it is known.
force_option = click.option(
    "--force",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_remember_force,
    help="Replace files that effconv did not write itself.",
)
skip_option = click.option(
    "--skip-unreadable", is_flag=True, help="Exit with status 0 although images that were found cannot be read."
)


def unreadable_status(skipped: int, named: int, skipping: bool) -> int:
    """The exit status of a run that left out `skipped` images, `named` of which the user had named one by one."""
    if named:
        return 2
    return int(skipped > 0 and not skipping)


noise_option = click.option(
    "--noise",
    "noise_seed",
    type=click.IntRange(min=0, max=2**32 - 1),
    help="Seed of the noise in place of a photograph; default: 0.",
)
image_size_option = click.option(
    "--size", metavar="HxW", help="Image height and width in pixels, such as 512x640; default: the model's."
)


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    click.echo(json_text(value, indent=1))


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


def parse_size(text: str) -> tuple[int, int]:
    """ "512x640" -> (512, 640), height first. Raises EffconvError."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text.strip().lower())
    if not match:
        raise EffconvError(f"--size {text}: expected HEIGHTxWIDTH in pixels, such as 512x640")
    if any(len(side) > 5 or int(side) > LARGEST_SIDE for side in match.groups()):
        raise EffconvError(f"--size {text}: too large; at most {LARGEST_SIDE} pixels a side")
    return int(match[1]), int(match[2])


def available_processors() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def record_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--record`, which every benchmark has."""
    return click.option("--record", type=Output(kind="RECORD"), help="File to write the record to as JSON.")(
        force_option(command)
    )


def rounds_option(default: int, text: str) -> Callable[..., Any]:
    """`--rounds`, how often each contestant runs."""
    return click.option("--rounds", type=click.IntRange(min=1), default=default, show_default=True, help=text)


def deliver(result: dict[str, Any], record: Path | None, as_json: bool, text: Callable[[], str]) -> None:
    """Write the record, and print it as JSON or as text, whose tables fit the terminal."""
    from ..parity.rendering.fitted import fitted
    from ..parity.rendering.record import write_record

    if record:
        write_record(result, record)
    if as_json:
        print_json(result)
    else:
        click.echo(fitted(text()))


def command_line() -> str:
    """The command line, without where its record goes."""
    words = sys.argv[1:]
    if "--record" in words:
        place = words.index("--record")
        words = words[:place] + words[place + 2 :]
    return shlex.join(["effconv", *words])
