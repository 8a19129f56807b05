"""Commands that write a model for TensorFlow's runtimes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .export_options import Asked, export_options, read_pictures, refuse_file
from .help_page import Command
from .options import PATH, Output, keep_others, print_json
from .refusals import refuse_given

if TYPE_CHECKING:
    from ..parity.comparison.exported import ExportCheck
    from ..parity.exporting.tflite import TFLiteCheck


@click.command("tflite", cls=Command)
@export_options
@click.option(
    "--input",
    "given",
    type=click.Choice(["float32", "uint8"]),
    help="Input of the file: normalised float32 images (1, H, W, 3) (default), or RGB pixels as uint8.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "int8"]),
    default="float32",
    show_default=True,
    help="Precision of the file: float16 weights halve its size; int8 is of weights and activations, where possible.",
)
@click.option(
    "--calibrate-on", type=PATH, help="With --precision int8: folder of pictures such as the file will be used on."
)
@click.option("-o", "--output", type=Output(kind="TFLITE"), help="File to write; default: MODEL.tflite in this folder.")
def tflite_command(
    given: str | None, precision: str, calibrate_on: Path | None, output: Path | None, **shared: Any
) -> None:
    """Write a detector as a TFLite file, from one image to boxes.

    It is the official computation, converted by TensorFlow.

    Outputs: boxes (1, M, 4) [ymin, xmin, ymax, xmax] in parts of the input's height and width, classes (1, M) from 0,
    scores (1, M) and count (1,). Suppression is TFLite's own TFLite_Detection_PostProcess by its regular rule: hard,
    within classes. Names, normalisation and configuration are in the file, as `effconv.json` of an archive at its end.
    TensorFlow's interpreter runs it on pictures, and it is kept when it finds what the model finds; exit with status 1
    when not. In another precision its float32 form must, and the file must find most likely objects again.
    """
    from ..convert.output import OutputError, replacing
    from ..convert.output_kinds import TFLITE
    from ..errors import EffconvError
    from ..parity.exporting.tflite import check_line, check_tflite, official_images, tflite_detector, write_tflite

    asked = Asked(**shared)
    asked.refuse_unused()
    if precision != "int8":
        refuse_given(("calibrate_on",), f"--precision {precision}")
    elif calibrate_on is None:
        raise EffconvError("--precision int8: name a folder of pictures to calibrate on (--calibrate-on)")
    if output and output.suffix != ".tflite":
        raise OutputError(f"{output}: expected a file ending in .tflite")
    calibration = read_pictures(calibrate_on) if calibrate_on else []
    pictures = asked.pictures() or calibration
    network, path = asked.open()
    written = output or Path(f"{network.config.name}.tflite")
    keep_others({written: TFLITE})
    detecting = asked.detecting(network, pixels=given == "uint8")
    detector = tflite_detector(network, detecting, raw=asked.raw)
    checked: TFLiteCheck | None = None
    with replacing(written) as (file,):
        content = detector.convert(precision, official_images(network.config, detecting, calibration))
        write_tflite(file, content, network, detecting, precision)
        if not (asked.raw or asked.no_check):
            checked = check_tflite(detector, file.read_bytes(), precision, network, detecting, pictures)
            if not checked.ok:
                refuse_file(check_line(checked, precision))
    record: dict[str, Any] = {
        "model": network.config.name,
        "checkpoint": path.name,
        "output": str(written),
        "precision": precision,
        "input": [1, *detecting.size, 3],
        "outputs": detector.output_names,
        "bytes": written.stat().st_size,
        "check": checked and checked.plain(),
    }
    if asked.as_json:
        print_json(record)
        return
    height, width = detecting.size
    click.echo(f"{network.config.name} at {height}x{width} -> {written} ({record['bytes'] / 1e6:.1f} MB, {precision})")
    if checked:
        click.echo(check_line(checked, precision))
    click.echo(f"run: tf.lite.Interpreter({str(written)!r}).get_signature_runner()(images=...)")


@click.command("savedmodel", cls=Command)
@export_options
@click.option(
    "--input",
    "given",
    type=click.Choice(["float32", "uint8"]),
    help="Input of the model: normalised float32 images (B, H, W, 3) (default), or RGB pixels (B, H, W, 3) as uint8.",
)
@click.option("-o", "--output", type=Output(folder=True), required=True, help="Folder to write the SavedModel to.")
def savedmodel_command(given: str | None, output: Path, **shared: Any) -> None:
    """Write a detector as a TensorFlow SavedModel.

    It goes from images to boxes. It is the official computation, of one input size and any batch.

    Its signature serving_default takes `images` and gives what the official export's gives: output_0 boxes (B, M, 4) in
    input pixels [ymin, xmin, ymax, xmax], output_1 scores (B, M), output_2 classes (B, M) from 1, and output_3 (B,),
    how many of an image's M rows are objects; with --raw, class outputs and then box outputs of every level.
    Suppression is TensorFlow's combined_non_max_suppression: hard, within classes. Names, normalisation and
    configuration are in assets.extra/effconv.json. TensorFlow loads the folder and runs it on pictures, and it is kept
    when it finds what the model finds; exit with status 1 when not.
    """
    from ..convert.output import replacing_folder, require_folder
    from ..convert.output_kinds import SAVED_MODEL, SAVED_MODEL_FILE, SERVED
    from ..parity.comparison.exported import check_line
    from ..parity.exporting.saved_model import check_saved_model, served_detector, write_saved_model
    from ..parity.reference.saved_model import write_errors

    asked = Asked(**shared)
    asked.refuse_unused()
    require_folder(output, SERVED)
    keep_others({output / SAVED_MODEL_FILE: SAVED_MODEL})
    pictures = asked.pictures()
    network, path = asked.open()
    detecting = asked.detecting(network, pixels=given == "uint8")
    detector = served_detector(network, detecting, raw=asked.raw)
    checked: ExportCheck | None = None
    with replacing_folder(output, SERVED, write_errors()) as folder:
        write_saved_model(folder, detector, network, detecting)
        if not (asked.raw or asked.no_check):
            checked = check_saved_model(folder, network, detecting, pictures)
            if not checked.ok:
                refuse_file(check_line(checked))
    record: dict[str, Any] = {
        "model": network.config.name,
        "checkpoint": path.name,
        "output": str(output),
        "input": ["batch", *detecting.size, 3],
        "outputs": detector.output_names,
        "bytes": sum(each.stat().st_size for each in output.rglob("*") if each.is_file()),
        "check": checked and checked.plain(),
    }
    if asked.as_json:
        print_json(record)
        return
    height, width = detecting.size
    click.echo(f"{network.config.name} at {height}x{width} -> {output} ({record['bytes'] / 1e6:.1f} MB)")
    if checked:
        click.echo(check_line(checked))
    click.echo(f"run: tf.saved_model.load({str(output)!r}){'.predict' if asked.raw else ''}(images)")
