"""Commands that write a model for other runtimes."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .export_hub import hub_command
from .export_program import pt2_command
from .export_tensorflow import savedmodel_command, tflite_command
from .options import (
    PATH,
    Number,
    Output,
    fetch_release,
    force_option,
    json_option,
    keep_others,
    model_option,
    print_json,
    verify_option,
)
from .refusals import DOWNLOADED, UNCHECKED, choose_one, refuse_checks, refuse_given
from .weights_path import WEIGHTS

if TYPE_CHECKING:
    from ..effdet_torch.engines.onnx_detector import Detecting
    from ..effdet_torch.model import EfficientDet
    from ..parity.comparison.exported import ExportCheck

CHECKED = 20  # pictures of a folder, at most


@click.group("export")
def export() -> None:
    """Write a model for another runtime."""


export.add_command(tflite_command)
export.add_command(savedmodel_command)
export.add_command(pt2_command)
export.add_command(hub_command)


@export.command("onnx")
@model_option(required=False)
@click.option("--ckpt", type=WEIGHTS, help="Checkpoint or converted weights; default: the released one.")
@click.option("--generation", help="Which released checkpoint to download: coco2 (default), coco, ...")
@click.option(
    "--weights",
    type=click.Choice(["ema", "raw"]),
    help="Which weights to take; default: the moving averages where there are any.",
)
@click.option("--size", metavar="HxW", help="Input height and width in pixels; default: the model's.")
@click.option("--raw", is_flag=True, help="The network alone: class logits and box codes of every level.")
@click.option(
    "--input",
    "given",
    type=click.Choice(["float32", "uint8"]),
    help="float32 (default): normalised images (B, 3, H, W). uint8: RGB pixels (B, H, W, 3), normalised inside.",
)
@click.option("--min-score", type=Number(0, 1), help="Drop objects up to this score; default: 0.05.")
@click.option("--max-detections", type=click.IntRange(min=1), help="Objects per image; default: 100.")
@click.option("--check-on", type=PATH, help="Folder of pictures to check the file on; default: drawn ones.")
@click.option("--no-check", is_flag=True, help="Keep the file without running it.")
@click.option("-o", "--output", type=Output(kind="GRAPH"), help="File to write; default: MODEL.onnx in this folder.")
@force_option
@verify_option
@json_option
def onnx_command(
    model: str | None,
    ckpt: Path | None,
    generation: str | None,
    weights: str | None,
    size: str | None,
    raw: bool,
    given: str | None,
    min_score: float | None,
    max_detections: int | None,
    check_on: Path | None,
    no_check: bool,
    output: Path | None,
    verify: bool,
    as_json: bool,
) -> None:
    """A detector as an ONNX graph, from images to boxes: static SAME padding, one input size, any batch.

    Outputs: boxes (B, M, 4) in input pixels [ymin, xmin, ymax, xmax], scores, categories (ids from 1) and count (B,),
    how many of an image's M rows are objects. Suppression is hard, within classes. Names, normalisation and anchors are
    in the graph's metadata. The file is run on pictures by onnxruntime, and kept when it finds what the model finds;
    exit with status 1 when not. With --raw the graph's outputs are the network's.
    """
    from ..convert.output import OutputError, replacing
    from ..convert.output_kinds import GRAPH
    from ..convert.sources import open_checkpoint
    from ..effdet_torch.config import ConfigError
    from ..effdet_torch.engines import onnx_detector, onnx_export
    from ..loading import CHECKPOINT_ENDINGS, load
    from .options import parse_size

    choose_one(DOWNLOADED)
    if raw:
        refuse_given(("given", "min_score", "max_detections", "check_on", "no_check"), "--raw")
    elif no_check:
        refuse_given(("check_on",), "--no-check")
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
    detecting = onnx_detector.Detecting(shape, pixels=given == "uint8")
    if min_score is not None:
        detecting = detecting._replace(score_threshold=min_score)
    if max_detections is not None:
        detecting = detecting._replace(max_outputs=max_detections)
    checked: ExportCheck | None = None
    with replacing(written) as (file,):
        if raw:
            onnx_export.export_onnx(network, file, shape)
        else:
            onnx_detector.export_detector(network, file, detecting)
            checked = None if no_check else _checked(file, network, detecting, check_on)
    record: dict[str, Any] = {
        "model": network.config.name,
        "checkpoint": path.name,
        "output": str(written),
        "opset": onnx_export.OPSET,
        "input": ["batch", *shape, 3] if detecting.pixels else ["batch", 3, *shape],
        "outputs": onnx_export.output_names(network) if raw else list(onnx_detector.OUTPUTS),
        "bytes": written.stat().st_size,
        "check": checked and checked.plain(),
    }
    if as_json:
        print_json(record)
        return
    click.echo(f"{network.config.name} at {shape[0]}x{shape[1]} -> {written} ({record['bytes'] / 1e6:.1f} MB)")
    if checked:
        from ..parity.comparison.exported import check_line

        click.echo(check_line(checked))


def _checked(file: Path, network: "EfficientDet", detecting: "Detecting", pictures: Path | None) -> "ExportCheck":
    """What running the file came to. Exits with status 1, before it takes its place, where it is not the model."""
    from ..effdet_torch.preprocessing.decode import read_encoded
    from ..parity.comparison.exported import check_exported, check_line
    from ..parity.prediction.image_files import find_images

    paths = find_images([str(pictures)])[:CHECKED] if pictures else []
    checked = check_exported(file, network, detecting, [read_encoded(path) for path in paths])
    if not checked.ok:
        click.echo(f"effconv: {check_line(checked)}; the file was not kept", err=True)
        sys.exit(1)
    return checked
