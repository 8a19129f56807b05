"""The command that proves effconv on the detector that ships with it."""

import contextlib
import shlex
import sys
from pathlib import Path

import click

from .help_page import Command
from .options import Output, force_option, json_option, keep_others, print_json


@click.command("demo", cls=Command)
@click.option(
    "-o",
    "--output",
    type=Output(folder=True),
    default=Path("effconv-demo"),
    show_default=True,
    help="Folder to write the results to.",
)
@force_option
@json_option
def demo(output: Path, as_json: bool) -> None:
    """Try everything on a small detector that ships with effconv.

    Pictures are drawn, weights converted, layers compared, objects detected, and metrics computed.

    Beside TensorFlow where it is installed, otherwise beside what TensorFlow made of the detector, recorded.
    """
    from ..parity.verification.demo import demo_outputs, run_demo
    from ..parity.verification.demo_page import demo_verdict
    from ..parity.verification.outcome import StepOutcome
    from ..parity.verification.report import done_line, print_steps
    from ..progress import IMAGES, progress

    keep_others(demo_outputs(output))

    def tell(step: StepOutcome) -> None:
        if not as_json:
            click.echo(done_line(step), err=True)

    with contextlib.ExitStack() as shown:
        record = run_demo(
            output,
            shlex.join(["effconv", *sys.argv[1:]]),
            tell,
            lambda what: shown.enter_context(progress(what, IMAGES)),
        )
    if as_json:
        print_json(record)
    else:
        verdict, state = demo_verdict(record)
        print_steps(f"{record['model']}: {verdict}", state, record["steps"], output / "index.html")
    sys.exit(0 if record["ok"] else 1)
