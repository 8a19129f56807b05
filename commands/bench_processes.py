"""Commands that measure what commands tell the system: about memory, and about threads that wait."""

from pathlib import Path

import click

from .help_page import Command
from .options import command_line, deliver, json_option, model_option, record_option, rounds_option


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


COMMANDS = (bench_allocation, bench_waiting)
