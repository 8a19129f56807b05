"""The command that writes a folder for a hub."""

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
    print_json,
    verify_option,
)
from .refusals import DOWNLOADED, UNCHECKED, choose_one, refuse_checks
from .weights_path import WEIGHTS, evaluation_record_option, parity_record_option


@click.command("hub", cls=Command)
@model_option(required=False)
@click.option("--ckpt", type=WEIGHTS, help="Checkpoint or converted weights; default: the released one.")
@click.option(
    "--generation", help="Released checkpoint to download: coco2 (default), coco, ... (`effconv models` lists all)."
)
@click.option(
    "--weights",
    type=click.Choice(["ema", "raw"]),
    help="Weights to take: moving averages (ema) or raw values; default: ema where there are any.",
)
@parity_record_option
@evaluation_record_option
@click.option("-o", "--output", type=Output(folder=True), required=True, help="Folder to write the model to.")
@force_option
@verify_option
@json_option
def hub_command(
    model: str | None,
    ckpt: Path | None,
    generation: str | None,
    weights: str | None,
    parity: tuple[Path, ...],
    evaluations: tuple[Path, ...],
    output: Path,
    verify: bool,
    as_json: bool,
) -> None:
    """Write a folder to publish on a hub, with a model card.

    In it are config.json, model.safetensors, its manifest, and README.md, the model card.

    `effconv.load` and --ckpt take such a folder. The card states what records say that are given; see `effconv card`.
    """
    from ..convert.sources import open_checkpoint
    from ..effdet_torch.config import ConfigError
    from ..loading import CHECKPOINT_ENDINGS
    from ..parity.publishing.hub import hub_outputs, read_source, write_hub

    choose_one(DOWNLOADED)
    if model is None and (ckpt is None or ckpt.suffix != ".safetensors"):
        raise ConfigError("name the model to export", parameters={"model": "d0"})
    keep_others(hub_outputs(output))
    path = ckpt or fetch_release(model or "", generation, verify)
    if path.suffix not in CHECKPOINT_ENDINGS and not open_checkpoint(path, verify=verify).has_checksums:
        refuse_checks(UNCHECKED)
    source = read_source(path, model, weights, verify=verify)
    written = write_hub(source, output, parity, evaluations)
    if as_json:
        print_json({"model": source.config.name, "checkpoint": path.name, "files": [str(each) for each in written]})
        return
    click.echo(f"{path} -> {', '.join(str(each) for each in written)}")
