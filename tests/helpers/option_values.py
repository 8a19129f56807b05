"""For any option of a command: words that give it a value which is not its default."""

import click

VALUES = {
    "size": "64x96",
    "report": "x.md",
    "model": "d2",
    "metrics_engine": "pycocotools",
    "device": "cuda",
    "engine": "compile",
    "survival": "0.5",
}


def options_of(command: click.Command) -> dict[str, click.Option]:
    """A command's options by the names its function has for them, without --help."""
    found = {option.name or "": option for option in command.params if isinstance(option, click.Option)}
    return {name: option for name, option in found.items() if name != "help"}


def given(option: click.Option, **values: str) -> list[str]:
    """The option and a value, of `values` or VALUES where it is there by the option's name."""
    name = option.name or ""
    if option.is_flag:
        return [(option.secondary_opts or option.opts)[0]]
    if value := (VALUES | values).get(name):
        return [option.opts[0], value]
    if isinstance(option.type, click.Choice):
        return [option.opts[0], option.type.choices[-1]]
    numbers = option.type.types if isinstance(option.type, click.Tuple) else [option.type]
    return [option.opts[0], *("0.5" if isinstance(number, click.FloatRange) else "1237" for number in numbers)]
