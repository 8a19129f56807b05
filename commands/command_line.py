"""The group of all commands: how errors and warnings are printed, and what the exit status is."""

import contextlib
import os
import sys
import warnings
from typing import Any

import click

from ..errors import INTERRUPTED_STATUS, NAMES_SHOWN, EffconvError
from .help_page import GroupedCommands
from .options import AS_JSON, COMMAND, print_json

OTHER_NAMES = {"checkpoint": "ckpt"}  # parameters whose option has another name


class CommandLine(GroupedCommands):
    """A group that prints our own errors and warnings as a line or two on stderr, without a traceback or a place."""

    def main(self, *arguments: Any, standalone_mode: bool = True, **more: Any) -> Any:
        """Run the command line and exit with its status; what the system refuses is an error like our own."""
        run: Any = super().main
        if not standalone_mode:
            return run(*arguments, standalone_mode=False, **more)
        try:
            status = run(*arguments, standalone_mode=False, **more)
        except click.ClickException as error:
            error.show()
            status = error.exit_code
        except click.Abort as error:
            click.echo("effconv: interrupted", err=True)
            _show_notes(error)
            status = INTERRUPTED_STATUS
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in ("", __package__.partition(".")[0]):
                raise
            click.echo(
                f"effconv: {error.name} is not installed, and this command needs it; install all that effconv needs: "
                "pip install -c constraints.txt . (in the checkout)",
                err=True,
            )
            status = 2
        except OSError as error:
            _drop_output()
            place = f" {error.filename}" if error.filename else ""
            reason = error.strerror or error
            click.echo(
                f"effconv: cannot read or write{place} ({reason}); free space, or choose another place", err=True
            )
            _show_notes(error)
            status = 2
        sys.exit(status)

    def invoke(self, context: click.Context) -> Any:
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if category.__module__.partition(".")[0] == EffconvError.__module__.partition(".")[0]:
                click.echo(f"effconv: warning: {message}", err=True)
            else:
                shown(message, category, *place, **more)

        try:
            with warnings.catch_warnings():
                warnings.showwarning = show
                return super().invoke(context)
        except EffconvError as error:
            click.echo(f"effconv: {error}{self._advice(context, error)}", err=True)
            _show_notes(error)
            if error.lists and context.meta.get(AS_JSON):
                print_json({"error": str(error), **error.lists})
            context.exit(error.exit_status)

    def _advice(self, context: click.Context, error: EffconvError) -> str:
        """What the command that failed can do about an error, by its options."""
        command = context.meta.get(COMMAND)
        options = {parameter.name: parameter for parameter in command.params} if command else {}
        given = {OTHER_NAMES.get(name, name): value for name, value in error.parameters.items()}
        words = [_written(options[name], value) for name, value in given.items() if name in options]
        advice = f" ({', '.join(words)})" if words else ""
        if "allow_nonfinite" in options and "not finite" in error.lists:
            advice += "; --allow-nonfinite takes them as they are"
        if (
            "as_json" in options
            and not context.meta.get(AS_JSON)
            and any(len(names) > NAMES_SHOWN for names in error.lists.values())
        ):
            advice += "; --json lists all"
        return advice


def _show_notes(error: BaseException) -> None:
    """What was noted about an error on its way here, such as what is kept of the work it ended."""
    for each in (error, error.__cause__):
        for note in getattr(each, "__notes__", ()):
            click.echo(f"effconv: {note}", err=True)


def _written(parameter: click.Parameter, value: str | bool | None) -> str:
    """An option as it would be given; False for the one that switches it off."""
    option = (parameter.secondary_opts if value is False else parameter.opts)[0]
    return f"{option} {value}" if isinstance(value, str) else option


def _drop_output() -> None:
    """Let what is still to be printed go nowhere, so that the interpreter does not fail at it when it ends."""
    with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
