"""The command that says what a checkpoint holds."""

from pathlib import Path
from typing import Any

import click

from .help_page import Command
from .options import json_option, print_json, verify_option
from .refusals import UNCHECKED, refuse_checks
from .weights_path import WEIGHTS


@click.command("inspect", cls=Command)
@click.argument(
    "ckpt",
    type=WEIGHTS,
    help="TensorFlow checkpoint, PyTorch weights (.safetensors, .pth, .pt) or ONNX graph to look into.",
)
@click.option("--tensors", is_flag=True, help="List the name and shape of every tensor.")
@verify_option
@json_option
def inspect(ckpt: Path, tensors: bool, verify: bool, as_json: bool) -> None:
    """Show what a file of weights holds and which model it fits.

    CKPT is a TensorFlow checkpoint, PyTorch weights (.safetensors, .pth, .pt) or an ONNX graph. The data is checked
    too, which may take seconds; of an .index file without data, the index alone.
    """
    from ..convert.inspection import NO_CHECKSUMS
    from ..parity.rendering.terminal import wrapped

    found = _found(ckpt, verify)
    if found["data"] == NO_CHECKSUMS:
        refuse_checks(UNCHECKED)
    if as_json:
        print_json(found if tensors else {key: value for key, value in found.items() if key != "tensors"})
        return
    for key, value in found.items():
        if key != "tensors" and value != []:
            text = f"{key.replace('_', ' '):18} {', '.join(value) if isinstance(value, list) else value}"
            click.echo(wrapped(text))
    if tensors:
        for row in found["tensors"]:
            click.echo(f"{row['crc32c'] or '-':8}  {row['dtype']:8} {row['shape']!s:20} {row['name']}")


def _found(path: Path, verify: bool) -> dict[str, Any]:
    from ..convert.inspection import inspect_checkpoint, inspect_graph, inspect_weights
    from ..convert.sources import open_checkpoint
    from ..loading import CHECKPOINT_ENDINGS, read_stored

    if path.suffix in CHECKPOINT_ENDINGS:
        return inspect_weights(path, read_stored(path, verify=verify), checked=verify)
    if path.suffix == ".onnx":
        from ..convert.formats.onnx_graph import read_graph

        return inspect_graph(path, read_graph(path))
    checkpoint = open_checkpoint(path, verify=verify)
    # An index was named and nothing else is there; of anything else a missing part is damage.
    alone = path.suffix == ".index" and not checkpoint.has_data
    if alone:
        refuse_checks("an .index without its data")
    if verify and not alone:
        checkpoint.verify()
    return inspect_checkpoint(checkpoint, checked=verify and not alone)
