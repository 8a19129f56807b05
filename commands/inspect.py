"""The command that says what a checkpoint holds."""

from pathlib import Path

import click

from .options import PATH, json_option, print_json, verify_option


@click.command("inspect")
@click.argument("ckpt", type=PATH)
@click.option("--tensors", is_flag=True, help="List every tensor.")
@verify_option
@json_option
def inspect(ckpt: Path, tensors: bool, verify: bool, as_json: bool) -> None:
    """Say what a checkpoint holds: container, tensors, moving averages, and which model it fits.

    The data is checked too, which may take seconds; of an .index file without data, the index alone.
    """
    from ..convert.inspection import inspect_checkpoint
    from ..convert.sources import open_checkpoint

    checkpoint = open_checkpoint(ckpt, verify=verify)
    # An index was named and nothing else is there; of anything else a missing part is damage.
    alone = ckpt.suffix == ".index" and not checkpoint.has_data
    if verify and not alone:
        checkpoint.verify()
    found = inspect_checkpoint(checkpoint, checked=verify and not alone)
    if as_json:
        print_json(found if tensors else {key: value for key, value in found.items() if key != "tensors"})
        return
    for key, value in found.items():
        if key != "tensors":
            click.echo(f"{key.replace('_', ' '):18} {', '.join(value) if isinstance(value, list) else value}")
    if tensors:
        for row in found["tensors"]:
            click.echo(f"{row['crc32c']}  {row['dtype']:8} {row['shape']!s:20} {row['name']}")
