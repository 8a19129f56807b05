"""The command that writes a model for PyTorch itself, without effconv."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .export_options import Asked, export_options, refuse_file
from .help_page import Command
from .options import Output, keep_others, print_json

if TYPE_CHECKING:
    from ..parity.comparison.exported import ExportCheck


@click.command("pt2", cls=Command)
@export_options
@click.option(
    "--input",
    "given",
    type=click.Choice(["float32", "uint8"]),
    help="Input of the file: normalised float32 images (B, 3, H, W) (default), or RGB pixels (B, H, W, 3) as uint8.",
)
@click.option("-o", "--output", type=Output(kind="PROGRAM"), help="File to write; default: MODEL.pt2 in this folder.")
def pt2_command(given: str | None, output: Path | None, **shared: Any) -> None:
    """Write a detector as a torch.export program.

    The program goes from images to boxes, at one input size and any batch.

    It returns a dictionary of boxes (B, M, 4) in input pixels [ymin, xmin, ymax, xmax], scores, categories (from 1) and
    count (B,), how many of an image's M rows are objects; with --raw, what the network returns. Suppression is hard,
    within classes, of an image's best 5000 pairs of box and class. The file is loaded and run on pictures, and kept
    when it finds what the model finds; exit with status 1 when not.
    """
    from ..convert.output import OutputError, replacing
    from ..convert.output_kinds import DESCRIPTION, PROGRAM
    from ..effdet_torch.engines.fast import fast
    from ..effdet_torch.engines.program import Detector, export_program
    from ..parity.comparison.exported import check_line
    from ..parity.exporting.description import described
    from ..parity.exporting.program import check_program

    asked = Asked(**shared)
    asked.refuse_unused("given")
    if output and output.suffix != ".pt2":
        raise OutputError(f"{output}: expected a file ending in .pt2")
    pictures = asked.pictures()
    network, path = asked.open()
    written = output or Path(f"{network.config.name}.pt2")
    keep_others({written: PROGRAM})
    detecting = asked.detecting(network, pixels=given == "uint8")
    checked: ExportCheck | None = None
    with replacing(written) as (file,):
        exported = fast(network) if asked.raw else Detector(network, detecting)
        export_program(exported, file, detecting, {DESCRIPTION: described(network, detecting)})
        if not (asked.raw or asked.no_check):
            checked = check_program(file, network, detecting, pictures)
            if not checked.ok:
                refuse_file(check_line(checked))
    height, width = detecting.size
    record: dict[str, Any] = {
        "model": network.config.name,
        "checkpoint": path.name,
        "output": str(written),
        "input": ["batch", height, width, 3] if detecting.pixels else ["batch", 3, height, width],
        "bytes": written.stat().st_size,
        "check": checked and checked.plain(),
    }
    if asked.as_json:
        print_json(record)
        return
    click.echo(f"{network.config.name} at {height}x{width} -> {written} ({record['bytes'] / 1e6:.1f} MB)")
    if checked:
        click.echo(check_line(checked))
    click.echo(f"run: torch.export.load({str(written)!r}).module()(images)")
