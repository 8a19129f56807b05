"""Commands that convert checkpoints and say what they are."""

import sys
from pathlib import Path

import click

from .options import PATH, fetch_release, json_option, model_option, nonfinite_option, print_json, verify_option


@click.command("tf2torch")
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
    from ..convert.conversion import convert, write_weights
    from ..convert.sources import open_checkpoint
    from ..effdet_torch.config import get_config
    from ..progress import BYTES, progress

    config = get_config(model)
    path = ckpt or fetch_release(model, generation, verify)
    with progress(f"checking {path.name}", BYTES) as report:
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


@click.command("torch2tf")
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
    from ..convert.conversion import write_checkpoint
    from ..loading import read_state

    state, config = read_state(weights, model, allow_nonfinite=allow_nonfinite)
    averages = read_state(ema, config, allow_nonfinite=allow_nonfinite)[0] if ema else state
    written = write_checkpoint(state, averages, config, prefix, str(weights))
    if as_json:
        print_json({"model": config.name, "variables": len(state), "files": [str(path) for path in written]})
        return
    click.echo(f"{weights} ({config.name}): {len(state)} variables, each with its moving average")
    click.echo("-> " + ", ".join(str(path) for path in written))


@click.command("inspect")
@click.argument("ckpt", type=PATH)
@click.option("--tensors", is_flag=True, help="List every tensor.")
@verify_option
@json_option
def inspect(ckpt: Path, tensors: bool, verify: bool, as_json: bool) -> None:
    """Say what a checkpoint holds: container, tensors, moving averages, and which model it fits."""
    from ..convert.inspection import inspect_checkpoint
    from ..convert.sources import open_checkpoint

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


@click.command("identify")
@click.argument("ckpt", type=PATH)
@click.option("--verify/--no-verify", default=True, help="Check the data, where it is there (default), or the .index.")
@json_option
def identify_command(ckpt: Path, verify: bool, as_json: bool) -> None:
    """Say which released checkpoint a file is, by its tensors' checksums; exit with status 1 when it is none."""
    from ..convert.fingerprints import identify
    from ..convert.sources import open_checkpoint

    checkpoint = open_checkpoint(ckpt)
    checked = verify and checkpoint.has_data
    if checked:
        checkpoint.verify()
    found = identify(checkpoint)
    if as_json:
        agreements = [row._asdict() for row in found.agreements]
        label = found.released and found.released.label
        print_json({"released_checkpoint": label, "data_checked": checked, "agreements": agreements})
    else:
        click.echo(f"{ckpt}: {found.released.label if found.released else 'none of the known released checkpoints'}")
        if not checked:
            click.echo("  by the index alone: no data was checked")
        for row in found.agreements if not found.released else found.agreements[:1]:
            click.echo(f"  {row.equal} of {row.total} tensors agree with {row.label}")
    sys.exit(0 if found.released else 1)


@click.command("models")
@json_option
def models(as_json: bool) -> None:
    """List the official models and their released checkpoints."""
    from ..convert.inspection import list_models

    rows = list_models()
    if as_json:
        print_json(rows)
        return
    click.echo(f"{'model':24} {'input':>9} {'parameters':>11}  generations")
    for row in rows:
        size = "{}x{}".format(*row["image_size"])
        click.echo(f"{row['model']:24} {size:>9} {row['parameters']:>11,}  {', '.join(row['generations'])}")


@click.command("download")
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
