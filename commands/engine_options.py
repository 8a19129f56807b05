"""`--engine`: what runs the network, by a name, chosen by effconv, or a graph to compare."""

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
# The same where a default has to be told from what was asked for.
stated_engine_option = click.option("--engine", type=click.Choice((*ENGINES, AUTO)), show_default="fast", help=CHOOSES)
GRAPH_ENDING = ".onnx"


class EngineOrGraph(click.Choice[str]):
    """An engine's name, or a file ending in .onnx."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The name or the file, as it was given."""
        return value if str(value).endswith(GRAPH_ENDING) else super().convert(value, param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """All names, and the file."""
        return f"[{'|'.join(map(str, self.choices))}|FILE.onnx]"


engine_or_graph_option = click.option(
    "--engine",
    type=EngineOrGraph(ENGINES),
    show_default="fast",
    help="Engine whose outputs to compare with the model's, or an .onnx graph to compare by its inner values.",
)


def say_engine(line: str) -> None:
    """Tell the user, beside the results, which engine was chosen."""
    click.echo(line, err=True)
