"""What `--help` prints: options under sections, which are the same in every command, and groups of commands.

click's own formatter, with names for sections: nothing is imported for it, and options stay click's.
"""

from collections.abc import Mapping, Sequence
from typing import IO, Any

import click

ONE_LIST = 8  # options, besides --help, that are read without sections
# {section: its options}, in the order in which they are shown.
SECTIONS: Mapping[str, tuple[str, ...]] = {
    section: tuple(names.split())
    for section, names in {
        "Model and weights": "model ckpt generation weights candidate from to function backbone init ema num-classes "
        "size verify allow-nonfinite",
        "Data": "coco data annotations images split eval-split hold-out results limit category-map strict "
        "skip-unreadable",
        "Comparison": "reference image noise layerwise backward explain end-to-end port module args candidate-trace "
        "names against waterfall list all combine resamples",
        "Detections": "nms candidates anchors min-score max-detections image-decoder resize metrics-engine",
        "Training": "epochs rate warmup-epochs schedule weight-decay clip-norm average-decay survival head-survival "
        "jitter flip iou-loss frozen-backbone frozen-norms train-norms local-norms eval-every keep-every",
        "Exported file": "raw input check-on no-check calibrate-on",
        "Running": "engine engines peers precision device batch parts workers threads rounds seed cache resume",
        "Output": "output out hide-below container report detections record parity eval float64 force json",
    }.items()
}
# What people need first: a command line, and what it does.
FIRST_COMMANDS = (
    ("effconv tf2torch --model d0", "Convert Google's weights."),
    ("effconv parity --model d0", "Prove that every layer agrees."),
    ("effconv predict photos/ --model d0 -o out", "Find objects in your images."),
    ("effconv ablate --all", "Measure what mistakes cost in AP."),
    ("effconv finetune DATA --from d0 -o run", "Train on your own images."),
)
OTHER = "Other options"  # what SECTIONS does not name; a test refuses it


def section_of(parameter: click.Option) -> str:
    """The section an option belongs to, by its long name."""
    name = parameter.opts[-1].removeprefix("--")
    return next((section for section, names in SECTIONS.items() if name in names), OTHER)


class Command(click.Command):
    """A command whose options are shown under sections, where there are too many for one list."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, each section's in the order of the command's own declaration."""
        shown = [each for each in self.params if isinstance(each, click.Option) and not each.hidden]
        if len(shown) <= ONE_LIST:
            super().format_options(ctx, formatter)
            return
        for section in (*SECTIONS, OTHER):
            records = [each.get_help_record(ctx) for each in shown if section_of(each) == section]
            rows = [record for record in records if record]
            if section == list(SECTIONS)[-1]:
                own = self.get_help_option(ctx)
                last = own.get_help_record(ctx) if own else None
                rows += [last] if last else []
            if rows:
                with formatter.section(section):
                    formatter.write_dl(rows)


class NoCommandError(click.UsageError):
    """Nothing was asked for: what to begin with is shown, with the exit status of bad input, as click has it."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the first commands to stderr."""
        longest = max(len(line) for line, _ in FIRST_COMMANDS)
        click.echo("effconv: no command was given. Five to begin with:\n", file, err=True)
        for line, purpose in FIRST_COMMANDS:
            click.echo(f"  {line:{longest}}  {purpose}", file, err=True)
        click.echo("\n`effconv --help` lists all commands; `effconv COMMAND --help` describes one.", file, err=True)


class GroupedCommands(click.Group):
    """A group that lists its commands by what they are for."""

    def __init__(self, *arguments: Any, **more: Any):
        super().__init__(*arguments, **more)
        self.headings: dict[str, Sequence[click.Command]] = {}

    def add_commands(self, heading: str, commands: Sequence[click.Command]) -> None:
        """Add commands that are listed under a heading."""
        self.headings[heading] = commands
        for command in commands:
            self.add_command(command)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The arguments for the command. Raises NoCommandError where there are none."""
        if not args and not ctx.resilient_parsing:
            raise NoCommandError("no command was given", ctx)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each heading's commands, with a sentence of each."""
        longest = max(map(len, self.commands))
        room = formatter.width - 6 - longest
        for heading, commands in self.headings.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [((command.name or "").ljust(longest), command.get_short_help_str(room)) for command in commands]
                )
