"""The command that converts weights between TensorFlow, effconv and other ports, in any direction."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .help_page import Command
from .options import (
    container_option,
    force_option,
    function_option,
    json_option,
    keep_others,
    model_option,
    nonfinite_option,
    num_classes_option,
    print_json,
    require_classes,
    verify_option,
)
from .refusals import UNCHECKED, refuse_checks, refuse_given
from .weights_path import WEIGHTS

if TYPE_CHECKING:
    from ..convert.layout import Array
    from ..effdet_torch.config import Config

PORTS = ("effconv", "effdet", "effdet-level-first", "zylo117", "pytorch-tools", "mmdetection")


@click.command("convert", cls=Command)
@click.argument(
    "file",
    type=WEIGHTS,
    help="TensorFlow checkpoint (folder, prefix, .index, .tar.gz, .h5) or PyTorch weights (.safetensors, .pth).",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    required=True,
    help="File to write: .safetensors, .pth, .h5, or a TensorFlow prefix or folder.",
)
@click.option(
    "--to",
    type=click.Choice(["tf", *PORTS]),
    help="Project whose tensor names the new file has; default: effconv's, or TensorFlow's for a TensorFlow file.",
)
@container_option("With --to tf: write a TF1 checkpoint (default), Keras weights (.h5), or a TF2 object checkpoint.")
@click.option(
    "--from",
    "names",
    type=click.Choice(PORTS),
    help="Project whose tensor names FILE has; default: recognised by the names.",
)
@model_option(required=False)
@function_option("FILE")
@num_classes_option
@click.option(
    "--weights",
    type=click.Choice(["ema", "raw"]),
    help="Weights to take: moving averages (ema) or raw values; default: ema where there are any.",
)
@force_option
@nonfinite_option
@verify_option
@json_option
def convert_command(
    file: Path,
    output: str,
    to: str | None,
    container: str | None,
    names: str | None,
    model: str | None,
    function: str | None,
    num_classes: int | None,
    weights: str | None,
    allow_nonfinite: bool,
    verify: bool,
    as_json: bool,
) -> None:
    """Convert weights between TensorFlow, effconv and other ports.

    The port, the model and the number of classes are recognised by the names and shapes of the tensors.
    """
    from ..convert.output import require_place
    from ..saving import TENSORFLOW, container_of, outputs_of, place_of, target_of, write_state

    container = container_of(Path(output), to, container)
    to = to or target_of(Path(output))
    place = place_of(output, to, container)
    outputs = outputs_of(place, to, container)
    for path in outputs:
        require_place(path)
    keep_others(outputs)
    state, config, source = _read(file, names, model, function, weights, verify, allow_nonfinite)
    require_classes(file, num_classes, config.num_classes)
    written = write_state(state, config, place, to, source, container)
    if as_json:
        print_json(
            {
                "model": config.name,
                "num_classes": config.num_classes,
                "to": to,
                "container": container if to == TENSORFLOW else None,
                "tensors": len(state),
                "source": source,
                "files": [str(path) for path in written],
            }
        )
        return
    click.echo(f"{file}: {config.label}, {len(state)} tensors, all accounted for")
    click.echo("-> " + ", ".join(str(path) for path in written))


def _read(
    file: Path,
    names: str | None,
    model: str | None,
    function: str | None,
    weights: str | None,
    verify: bool,
    allow_nonfinite: bool,
) -> "tuple[dict[str, Array], Config, dict[str, Any]]":
    """(state dict, its model, where it is from)."""
    from ..convert.apply import only_model, with_its_classes
    from ..convert.conversion import convert
    from ..convert.namings.recognition import NAMINGS
    from ..convert.sources import open_checkpoint
    from ..effdet_torch.config import get_config
    from ..errors import CheckpointError
    from ..loading import CHECKPOINT_ENDINGS, FunctionError, read_file

    if file.suffix in CHECKPOINT_ENDINGS:
        naming = NAMINGS[names] if names else None
        try:
            state, config, anchors = read_file(
                file,
                model,
                weights=weights,
                naming=naming,
                function=function,
                verify=verify,
                allow_nonfinite=allow_nonfinite,
            )
        except FunctionError:
            refuse_given({"function"}, f"{file}, whose function is known")
            raise
        return state, config, {"file": file.name, **({"anchors": anchors} if anchors else {})}
    refuse_given({"function"}, "a TensorFlow checkpoint, whose function is the official one")
    if names is not None:
        raise CheckpointError(f"{file}: a TensorFlow checkpoint, whose names are its own; leave out --from")
    checkpoint = open_checkpoint(file, verify=verify)
    if not checkpoint.has_checksums:
        refuse_checks(UNCHECKED)
    if model is None:
        config = only_model(checkpoint)
    else:
        config = with_its_classes(checkpoint.variables, checkpoint.container, get_config(model))
    conversion = convert(checkpoint, config, weights, verify=verify, allow_nonfinite=allow_nonfinite)
    if conversion.plan.notice:
        click.echo(f"note: {conversion.plan.notice}", err=True)
    return conversion.state, config, conversion.manifest["source"]
