"""Commands that write a model for other runtimes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .export_hub import hub_command
from .export_options import Asked, export_options, refuse_file
from .export_program import pt2_command
from .export_tensorflow import savedmodel_command, tflite_command
from .help_page import Command
from .options import Output, keep_others, print_json

if TYPE_CHECKING:
    from ..parity.comparison.exported import ExportCheck


@click.group("export")
def export() -> None:
    """Write a model for another runtime."""


export.add_command(tflite_command)
export.add_command(savedmodel_command)
export.add_command(pt2_command)
export.add_command(hub_command)


@export.command("onnx", cls=Command)
@export_options
@click.option(
    "--input",
    "given",
    type=click.Choice(["float32", "uint8"]),
    help="Input of the file: normalised float32 images (B, 3, H, W) (default), or RGB pixels (B, H, W, 3) as uint8.",
)
@click.option("-o", "--output", type=Output(kind="GRAPH"), help="File to write; default: MODEL.onnx in this folder.")
def onnx_command(given: str | None, output: Path | None, **shared: Any) -> None:
    """Write a detector as an ONNX graph, from images to boxes.

    The graph has static SAME padding, one input size, and any batch.

    Outputs: boxes (B, M, 4) in input pixels [ymin, xmin, ymax, xmax], scores, categories (ids from 1) and count (B,),
    how many of an image's M rows are objects. Suppression is hard, within classes. Names, normalisation and anchors are
    in the graph's metadata. The file is run on pictures by onnxruntime, and kept when it finds what the model finds;
    exit with status 1 when not. With --raw the graph's outputs are the network's.
    """
    from ..convert.output import OutputError, replacing
    from ..convert.output_kinds import GRAPH
    from ..effdet_torch.engines import onnx_detector, onnx_export
    from ..parity.comparison.exported import check_exported, check_line

    asked = Asked(**shared)
    asked.refuse_unused("given")
    if output and output.suffix != ".onnx":
        raise OutputError(f"{output}: expected a file ending in .onnx")
    pictures = asked.pictures()
    network, path = asked.open()
    written = output or Path(f"{network.config.name}.onnx")
    keep_others({written: GRAPH})
    detecting = asked.detecting(network, pixels=given == "uint8")
    checked: ExportCheck | None = None
    with replacing(written) as (file,):
        if asked.raw:
            onnx_export.export_onnx(network, file, detecting.size)
        else:
            onnx_detector.export_detector(network, file, detecting)
            if not asked.no_check:
                checked = check_exported(file, network, detecting, pictures)
                if not checked.ok:
                    refuse_file(check_line(checked))
    height, width = detecting.size
    record: dict[str, Any] = {
        "model": network.config.name,
        "checkpoint": path.name,
        "output": str(written),
        "opset": onnx_export.OPSET,
        "input": ["batch", height, width, 3] if detecting.pixels else ["batch", 3, height, width],
        "outputs": onnx_export.output_names(network) if asked.raw else list(onnx_detector.OUTPUTS),
        "bytes": written.stat().st_size,
        "check": checked and checked.plain(),
    }
    if asked.as_json:
        print_json(record)
        return
    click.echo(f"{network.config.name} at {height}x{width} -> {written} ({record['bytes'] / 1e6:.1f} MB)")
    if checked:
        click.echo(check_line(checked))
