"""The command that writes a model card."""

from pathlib import Path

import click

from .help_page import Command
from .options import Output, force_option, json_option, print_json, verify_option
from .weights_path import WEIGHTS, evaluation_record_option, parity_record_option


@click.command("card", cls=Command)
@click.argument("weights", type=WEIGHTS, help="Weights to describe: a .safetensors file with its manifest beside it.")
@parity_record_option
@evaluation_record_option
@click.option(
    "-o",
    "--output",
    type=Output(".md", kind="CARD"),
    required=True,
    help="File to write the card to: README.md for a hub.",
)
@force_option
@verify_option
@json_option
def card_command(
    weights: Path,
    parity: tuple[Path, ...],
    evaluations: tuple[Path, ...],
    output: Path,
    verify: bool,
    as_json: bool,
) -> None:
    """Describe WEIGHTS.safetensors in Markdown, for a page on a hub.

    It says what the model is, where its weights are from (by the manifest beside them), and how to use them. Figures
    are those of records that are given, each of which must be of these very weights; what no record says is listed as
    not verified. A card that was changed by hand is not replaced.
    """
    from ..convert.output import replacing
    from ..parity.publishing.card import card
    from ..parity.publishing.weights import describe_weights

    about = describe_weights(weights, verify=verify)
    text = card(about, weights.name, parity, evaluations)
    with replacing(output) as (file,):
        file.write_text(text, encoding="utf-8")
    if as_json:
        print_json(
            {
                "output": str(output),
                "model": about.config.name,
                "sha256": about.sha256,
                "released_checkpoint": about.release,
                "parity_records": [str(path) for path in parity],
                "evaluation_records": [str(path) for path in evaluations],
            }
        )
        return
    click.echo(f"{weights} -> {output} ({len(parity)} comparisons, {len(evaluations)} evaluations)")
