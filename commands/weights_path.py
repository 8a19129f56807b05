"""Weights on the command line: a file, a checkpoint, or a folder that `effconv export hub` wrote."""

import os
from pathlib import Path
from typing import Any

import click


class WeightsPath(click.Path):
    """A path of weights; of a folder as hubs have them, the file in it, whose configuration is found to be its own."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path. Raises EffconvError for a folder whose configuration is not of its weights."""
        from ..convert.hub_folder import weights_in

        return weights_in(Path(os.fsdecode(super().convert(value, param, ctx))))


WEIGHTS = WeightsPath()
EVIDENCE = click.Path(path_type=Path)
parity_record_option = click.option(
    "--parity",
    type=EVIDENCE,
    multiple=True,
    help="JSON record of `effconv parity` whose figures the card states; may be repeated.",
)
evaluation_record_option = click.option(
    "--eval",
    "evaluations",
    type=EVIDENCE,
    multiple=True,
    help="JSON record of `effconv eval` whose figures the card states; may be repeated.",
)
