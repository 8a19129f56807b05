"""The `effconv` command: each subcommand parses, calls one function, prints, and sets the exit status.

Exit status: 0 done, 1 a verification failed, 2 the input is bad. Heavy imports happen inside the commands, so that
`--help` answers at once and converting imports neither torch nor TensorFlow.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from . import __version__
from .errors import EffconvError

PATH = click.Path(path_type=Path)


class CommandLine(click.Group):
    """A group that prints our own errors as a line or two on stderr instead of a traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except EffconvError as error:
            click.echo(f"effconv: {error}", err=True)
            context.exit(error.exit_status)


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="effconv")
def main() -> None:
    """Official TensorFlow EfficientDet weights in PyTorch, with proof that nothing changed on the way."""


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--json`, which every command that reports has."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")(command)


def model_option(required: bool) -> Callable[..., Any]:
    """`--model`, by any of a model's names."""
    text = "d0..d7x, lite0..lite4, d2-640, d0-advprop, ... (see `effconv models`), or a .json configuration."
    return click.option("--model", required=required, help=text)


nonfinite_option = click.option("--allow-nonfinite", is_flag=True, help="Take NaN and infinite weights as they are.")
verify_option = click.option("--verify/--no-verify", default=True, help="Check every checksum (default), or none.")


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    click.echo(json.dumps(value, indent=1))


@main.command("tf2torch")
@model_option(required=True)
@click.option("--ckpt", type=PATH, help="Directory, prefix, .index, .tar.gz or .h5; default: the released checkpoint.")
@click.option("--generation", help="Which released checkpoint to download: coco2 (default), coco, ...")
@click.option("--weights", type=click.Choice(["ema", "raw"]), help="Default: the moving averages where there are any.")
@click.option("-o", "--output", type=PATH, help="Default: MODEL.safetensors in this directory.")
@nonfinite_option
@verify_option
@json_option
def tf2torch(
    model: str,
    ckpt: Path | None,
    generation: str | None,
    weights: str | None,
    output: Path | None,
    allow_nonfinite: bool,
    verify: bool,
    as_json: bool,
) -> None:
    """Convert a TensorFlow checkpoint to PyTorch weights (.safetensors, with a manifest beside it)."""
    from .convert.conversion import convert, write_weights
    from .convert.sources import open_checkpoint
    from .effdet_torch.config import get_config
    from .progress import byte_progress

    config = get_config(model)
    path = ckpt or fetch_release(model, generation, verify)
    with byte_progress(f"checking {path.name}") as report:
        conversion = convert(
            open_checkpoint(path, verify=verify),
            config,
            weights,
            verify=verify,
            allow_nonfinite=allow_nonfinite,
            report=report,
        )
    output = output or Path(f"{config.name}.safetensors")
    manifest = write_weights(conversion, output)
    if as_json:
        print_json({"output": str(output), "manifest": str(manifest), **conversion.manifest})
        return
    source = conversion.manifest["source"]
    click.echo(f"{path} ({source['container']}, {source['released_checkpoint'] or 'not a known release'})")
    used = {"ema": "moving averages", "raw": "raw weights", "only": "weights"}[conversion.plan.weights]
    click.echo(
        f"  {len(conversion.plan.rows)} {used} converted, {len(conversion.plan.dropped)} other variables accounted for"
    )
    if conversion.plan.notice:
        click.echo(f"  note: {conversion.plan.notice}")
    click.echo(f"-> {output}, {manifest}")


def fetch_release(model: str, generation: str | None, verify: bool) -> Path:
    """Download (or find in the cache) a released checkpoint, saying on stderr what is done and how it was verified."""
    from .convert.zoo import download, find_release
    from .effdet_torch.config import get_config
    from .progress import byte_progress

    release = find_release(get_config(model), generation)
    with byte_progress(f"downloading {Path(release.path).name}") as report:
        found = download(release, verify=verify, report=report)
    click.echo(f"{found.path}: {found.verification}", err=True)
    return found.path


@main.command("torch2tf")
@click.argument("weights", type=PATH)
@click.option("-o", "--output", "prefix", type=PATH, required=True, help="Prefix of the checkpoint, e.g. d0/model.")
@click.option("--ema", type=PATH, help="Weights to store as moving averages; default: the same.")
@model_option(required=False)
@nonfinite_option
@json_option
def torch2tf(
    weights: Path, prefix: Path, ema: Path | None, model: str | None, allow_nonfinite: bool, as_json: bool
) -> None:
    """Convert PyTorch weights (.safetensors, .pth) to an official-format TensorFlow checkpoint."""
    from .convert.conversion import write_checkpoint
    from .loading import read_state

    state, config = read_state(weights, model, allow_nonfinite=allow_nonfinite)
    averages = read_state(ema, config, allow_nonfinite=allow_nonfinite)[0] if ema else state
    written = write_checkpoint(state, averages, config, prefix, str(weights))
    if as_json:
        print_json({"model": config.name, "variables": len(state), "files": [str(path) for path in written]})
        return
    click.echo(f"{weights} ({config.name}): {len(state)} variables, each with its moving average")
    click.echo("-> " + ", ".join(str(path) for path in written))


@main.command("inspect")
@click.argument("ckpt", type=PATH)
@click.option("--tensors", is_flag=True, help="List every tensor.")
@verify_option
@json_option
def inspect(ckpt: Path, tensors: bool, verify: bool, as_json: bool) -> None:
    """Say what a checkpoint holds: container, tensors, moving averages, and which model it fits."""
    from .convert.inspection import inspect_checkpoint
    from .convert.sources import open_checkpoint

    found = inspect_checkpoint(open_checkpoint(ckpt, verify=verify))
    if as_json:
        print_json(found if tensors else {key: value for key, value in found.items() if key != "tensors"})
        return
    for key, value in found.items():
        if key != "tensors":
            click.echo(f"{key.replace('_', ' '):18} {', '.join(value) if isinstance(value, list) else value}")
    if tensors:
        for row in found["tensors"]:
            click.echo(f"{row['crc32c']}  {row['dtype']:8} {row['shape']!s:20} {row['name']}")


@main.command("identify")
@click.argument("ckpt", type=PATH)
@json_option
def identify_command(ckpt: Path, as_json: bool) -> None:
    """Say which released checkpoint a file is, by its tensors' checksums; exit with status 1 when it is none."""
    from .convert.fingerprints import identify
    from .convert.sources import open_checkpoint

    found = identify(open_checkpoint(ckpt))
    if as_json:
        agreements = [row._asdict() for row in found.agreements]
        print_json({"released_checkpoint": found.released and found.released.label, "agreements": agreements})
    else:
        click.echo(f"{ckpt}: {found.released.label if found.released else 'none of the known released checkpoints'}")
        for row in found.agreements if not found.released else found.agreements[:1]:
            click.echo(f"  {row.equal} of {row.total} tensors agree with {row.label}")
    sys.exit(0 if found.released else 1)


@main.command("models")
@json_option
def models(as_json: bool) -> None:
    """List the official models and their released checkpoints."""
    from .convert.inspection import list_models

    rows = list_models()
    if as_json:
        print_json(rows)
        return
    click.echo(f"{'model':24} {'input':>9} {'parameters':>11}  generations")
    for row in rows:
        size = "{}x{}".format(*row["image_size"])
        click.echo(f"{row['model']:24} {size:>9} {row['parameters']:>11,}  {', '.join(row['generations'])}")


@main.command("download")
@model_option(required=True)
@click.option("--generation", help="coco2 (default), coco, ... (see `effconv models`).")
@verify_option
@json_option
def download_command(model: str, generation: str | None, verify: bool, as_json: bool) -> None:
    """Download a released checkpoint into the cache, verified; print its path."""
    path = fetch_release(model, generation, verify)
    if as_json:
        print_json({"path": str(path)})
    else:
        click.echo(str(path))


@main.command("demo")
@json_option
def demo(as_json: bool) -> None:
    """Convert a small checkpoint that ships with effconv, and compare every layer with the official code's."""
    from .parity.demo import run_demo
    from .parity.report import print_demo

    result = run_demo()
    if as_json:
        print_json(result.record())
    else:
        print_demo(result)
    sys.exit(0 if result.ok else 1)


@main.group("bench")
def bench() -> None:
    """Measure speed and memory, ours beside others', in one interleaved run."""


@bench.command("convert")
@model_option(required=False)
@click.option(
    "--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Fresh processes per contestant."
)
@click.option("--record", type=PATH, help="Write the record (JSON) here too.")
@json_option
def bench_convert(model: str | None, rounds: int, record: Path | None, as_json: bool) -> None:
    """Time and memory of `tf2torch` beside TensorFlow's own reader with torch.save."""
    from .parity.benchmark import measure_conversion
    from .parity.report import conversion_table, write_record

    result = measure_conversion(model or "d0", rounds)
    if record:
        write_record(result, record)
    if as_json:
        print_json(result)
    else:
        click.echo(conversion_table(result))


if __name__ == "__main__":
    main()
