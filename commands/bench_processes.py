"""Commands that measure processes of effconv: freed memory, threads that wait, and whole runs of `eval`."""

from pathlib import Path

import click

from .help_page import Command
from .options import PATH, command_line, deliver, json_option, model_option, record_option, rounds_option


@click.command("allocation", cls=Command)
@model_option(required=False)
@click.option("--threads", type=click.IntRange(min=1), help="Number of threads to use; default: all processors.")
@rounds_option(5, "Number of fresh processes of each kind.")
@record_option
@json_option
def bench_allocation(model: str | None, threads: int | None, rounds: int, record: Path | None, as_json: bool) -> None:
    """Measure what keeping freed memory gains.

    `effconv eval`, `predict`, `ablate` and `train` do so on Linux.
    """
    from ..parity.benchmarks.allocation import allocation_table, measure_allocation
    from .options import available_processors

    result = measure_allocation(model or "d0", threads or available_processors(), rounds, command_line())
    deliver(result.plain(), record, as_json, lambda: allocation_table(result))


@click.command("waiting", cls=Command)
@model_option(required=False)
@rounds_option(5, "Number of fresh processes of each kind.")
@record_option
@json_option
def bench_waiting(model: str | None, rounds: int, record: Path | None, as_json: bool) -> None:
    """Measure what brief waiting of threads gains.

    In every effconv command, a thread that waits for another gives up its processor soon: beside a busy process the
    other needs it.
    """
    from ..parity.benchmarks.waiting import measure_waiting, waiting_table
    from .options import available_processors

    result = measure_waiting(model or "d0", available_processors(), rounds, command_line())
    deliver(result.plain(), record, as_json, lambda: waiting_table(result))


@click.command("runs", cls=Command)
@click.option(
    "--coco", type=PATH, required=True, help="Folder of COCO 2017 as unpacked, with annotations/ and val2017/."
)
@model_option(required=False)
@click.option("--threads", type=click.IntRange(min=1), help="Number of threads to use; default: all processors.")
@rounds_option(5, "Number of fresh processes of each kind.")
@record_option
@json_option
def bench_runs(
    coco: Path, model: str | None, threads: int | None, rounds: int, record: Path | None, as_json: bool
) -> None:
    """Measure whole runs of `eval`, start included.

    The engines eager, fast and onnxruntime take turns in fresh processes, with random weights. Graphs are exported
    beforehand, in runs that are not counted.
    """
    from ..parity.benchmarks.runs import measure_runs, runs_table
    from .options import available_processors

    result = measure_runs(coco, model or "d0", threads or available_processors(), rounds, command_line())
    deliver(result.plain(), record, as_json, lambda: runs_table(result))


COMMANDS = (bench_allocation, bench_waiting, bench_runs)
