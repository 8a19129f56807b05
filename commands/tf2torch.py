"""The command that converts a TensorFlow checkpoint."""

import json
from pathlib import Path

import click

from .help_page import Command
from .options import (
    Output,
    fetch_release,
    force_option,
    json_option,
    keep_others,
    model_option,
    nonfinite_option,
    num_classes_option,
    print_json,
    require_classes,
    verify_option,
)
from .refusals import DOWNLOADED, UNCHECKED, choose_one, refuse_checks
from .weights_path import WEIGHTS


@click.command("tf2torch", cls=Command)
@model_option(required=True)
@click.option(
    "--ckpt",
    type=WEIGHTS,
    help="TensorFlow checkpoint: a folder, prefix, .index, .tar.gz or .h5; default: the released one.",
)
@click.option(
    "--generation", help="Released checkpoint to download: coco2 (default), coco, ... (`effconv models` lists all)."
)
@click.option(
    "--weights",
    type=click.Choice(["ema", "raw"]),
    help="Weights to take: moving averages (ema) or raw values; default: ema where there are any.",
)
@click.option(
    "-o",
    "--output",
    type=Output(".safetensors", kind="WEIGHTS"),
    help="File to write; default: MODEL.safetensors in this folder.",
)
@num_classes_option
@force_option
@nonfinite_option
@verify_option
@json_option
def tf2torch(
    model: str,
    ckpt: Path | None,
    generation: str | None,
    weights: str | None,
    output: Path | None,
    num_classes: int | None,
    allow_nonfinite: bool,
    verify: bool,
    as_json: bool,
) -> None:
    """Convert a TensorFlow checkpoint to PyTorch weights.

    The weights are a .safetensors file, with a manifest beside it.
    """
    from ..convert.apply import with_its_classes
    from ..convert.conversion import convert, manifest_path, write_weights
    from ..convert.output_kinds import MANIFEST, WEIGHTS
    from ..convert.sources import open_checkpoint
    from ..effdet_torch.config import get_config
    from ..progress import BYTES, progress

    choose_one(DOWNLOADED)
    config = get_config(model)
    output = output or Path(f"{config.name}.safetensors")
    keep_others({output: WEIGHTS, manifest_path(output): MANIFEST})
    path = ckpt or fetch_release(model, generation, verify)
    checkpoint = open_checkpoint(path, verify=verify)
    if not checkpoint.has_checksums:
        refuse_checks(UNCHECKED)
    config = with_its_classes(checkpoint.variables, checkpoint.container, config)
    require_classes(path, num_classes, config.num_classes)
    with progress(f"checking {path.name}", BYTES) as report:
        conversion = convert(
            checkpoint,
            config,
            weights,
            verify=verify,
            allow_nonfinite=allow_nonfinite,
            report=report,
        )
    manifest = write_weights(conversion, output)
    if as_json:
        print_json({"output": str(output), "manifest": str(manifest), **json.loads(manifest.read_bytes())})
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
