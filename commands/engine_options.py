"""`--engine`: what runs the network, by a name, chosen by effconv, or a file or folder that has it inside."""

import os
from pathlib import Path
from typing import Any

import click

ENGINES = ("eager", "fast", "compile", "onnxruntime", "openvino")  # those of `engines.py`, which imports torch
AUTO = "auto"  # that of `choice.py`, likewise
RUNS_BY = "What runs the network: PyTorch (eager), its fast form (fast), that compiled (compile), or another library"
CHOOSES = f"{RUNS_BY}; auto: onnxruntime where a graph is kept or exporting one pays, else fast."
engine_option = click.option(
    "--engine", type=click.Choice(ENGINES), default="fast", show_default=True, help=f"{RUNS_BY}."
)
# Where so many images may come that effconv can tell which is soonest done.
choosing_engine_option = click.option(
    "--engine", type=click.Choice((*ENGINES, AUTO)), default="fast", show_default=True, help=CHOOSES
)
GRAPH_ENDING = ".onnx"


def is_file(engine: str | None) -> bool:
    """Whether what `--engine` names is a file, told by its ending, or a folder."""
    if engine is None or engine in (*ENGINES, AUTO):
        return False
    return Path(engine).suffix != "" or os.sep in engine or Path(engine).is_dir()


class EngineOrFile(click.Choice[str]):
    """An engine's name, or a file or folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The name or the file, as it was given."""
        return value if is_file(value) else super().convert(value, param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """All names, and the file."""
        return f"[{'|'.join(map(str, self.choices))}|FILE]"


# Where a default has to be told from what was asked for.
engine_or_exported_option = click.option(
    "--engine",
    type=EngineOrFile((*ENGINES, AUTO)),
    show_default="fast",
    help=f"{CHOOSES} FILE: in the place of a model, one that `effconv export` wrote: .onnx, .tflite, .pt2 or a "
    "SavedModel's folder.",
)
engine_or_file_option = click.option(
    "--engine",
    type=EngineOrFile(ENGINES),
    show_default="fast",
    help="Compare this way to run the network with the model: an engine's outputs, an .onnx graph's inner values, or "
    "what an exported .tflite, .pt2 or SavedModel's folder finds on pictures.",
)


def say_engine(line: str) -> None:
    """Tell the user, beside the results, which engine was chosen."""
    click.echo(line, err=True)
