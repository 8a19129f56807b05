"""Commands that write a model for other runtimes."""

from pathlib import Path
from typing import Any

import click

from .options import (
    PATH,
    Output,
    fetch_release,
    force_option,
    json_option,
    keep_others,
    model_option,
    print_json,
    verify_option,
)
from .refusals import DOWNLOADED, UNCHECKED, choose_one, refuse_checks


@click.group("export")
def export() -> None:
    """Write a model for another runtime."""


@export.command("onnx")
@model_option(required=False)
@click.option("--ckpt", type=PATH, help="Checkpoint or converted weights; default: the released one.")
@click.option("--generation", help="Which released checkpoint to download: coco2 (default), coco, ...")
@click.option("--weights", type=click.Choice(["ema", "raw"]), help="Default: moving averages if there are any.")
@click.option("--size", metavar="HxW", help="Input height and width in pixels; default: the model's.")
@click.option("-o", "--output", type=Output(kind="GRAPH"), help="Default: MODEL.onnx in this folder.")
@force_option
@verify_option
@json_option
def onnx_command(
    model: str | None,
    ckpt: Path | None,
    generation: str | None,
    weights: str | None,
    size: str | None,
    output: Path | None,
    verify: bool,
    as_json: bool,
) -> None:
    """The fast form of a model as an ONNX graph: static SAME padding, one input size, any batch.

    Its input "images" is (B, 3, H, W), normalised as the model's configuration says; its outputs are the model's.
    """
    from ..convert.output import OutputError, replacing
    from ..convert.output_kinds import GRAPH
    from ..convert.sources import open_checkpoint
    from ..effdet_torch.config import ConfigError
    from ..effdet_torch.engines.onnx_export import OPSET, export_onnx, output_names
    from ..loading import CHECKPOINT_ENDINGS, load
    from .options import parse_size

    choose_one(DOWNLOADED)
    if model is None and (ckpt is None or ckpt.suffix != ".safetensors"):
        raise ConfigError("name the model to export", parameters={"model": "d0"})
    if output and output.suffix != ".onnx":
        raise OutputError(f"{output}: expected a file ending in .onnx")
    path = ckpt or fetch_release(model or "", generation, verify)
    if path.suffix not in CHECKPOINT_ENDINGS and not open_checkpoint(path, verify=verify).has_checksums:
        refuse_checks(UNCHECKED)
    network = load(path, model=model, weights=weights, verify=verify)
    shape = parse_size(size) if size else network.config.image_size
    written = output or Path(f"{network.config.name}.onnx")
    keep_others({written: GRAPH})
    with replacing(written) as (file,):
        export_onnx(network, file, shape)
    record: dict[str, Any] = {
        "model": network.config.name,
        "checkpoint": path.name,
        "output": str(written),
        "opset": OPSET,
        "input": ["batch", 3, *shape],
        "outputs": output_names(network),
        "bytes": written.stat().st_size,
    }
    if as_json:
        print_json(record)
    else:
        click.echo(f"{network.config.name} at {shape[0]}x{shape[1]} -> {written} ({record['bytes'] / 1e6:.1f} MB)")
