"""Options that would have no effect beside others are refused, by name and before any work is done."""

from collections.abc import Collection, Mapping

import click

from ..errors import EffconvError


def given_options(context: click.Context) -> dict[str, str]:
    """The options on the command line: the name the command's function has for each -> the option as it is written."""
    return {
        parameter.name or "": _as_given(parameter, context)
        for parameter in context.command.params
        if isinstance(parameter, click.Option)
        and context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE
    }


def _as_given(option: click.Option, context: click.Context) -> str:
    switched_off = option.secondary_opts and context.params.get(option.name or "") is False
    return (option.secondary_opts if switched_off else option.opts)[0]


def refuse(unused: Collection[str], by: str, advice: str = "") -> None:
    """Raise EffconvError where there is any of `unused`, options as they are written, and say what does not use it."""
    if unused:
        these = "it" if len(unused) == 1 else "them"
        raise EffconvError(f"{', '.join(unused)}: not used by {by}; leave {these} out{advice}")


def refuse_given(names: Collection[str], by: str) -> None:
    """Refuse those of the running command's options that are given and do nothing; `by` says beside what."""
    given = given_options(click.get_current_context())
    refuse([shown for name, shown in given.items() if name in names], by)


def refuse_all_but(used: Collection[str], by: str) -> None:
    """Refuse whatever option of the running command is given and not one of `used`."""
    given = given_options(click.get_current_context())
    refuse([shown for name, shown in given.items() if name not in used], by)


def refuse_checks(by: str) -> None:
    """Refuse --verify and --no-verify beside something that has nothing to check."""
    refuse_given({"verify"}, by)


def choose_one(reasons: Mapping[tuple[str, str], str]) -> None:
    """Refuse pairs of the running command's options of which one makes the other useless, for the reason beside it."""
    given = given_options(click.get_current_context())
    for (one, other), reason in reasons.items():
        if one in given and other in given:
            raise EffconvError(f"{given[one]} and {given[other]}: choose one; {reason}")


UNCHECKED = "a file without checksums"
# Pairs that several commands have.
DOWNLOADED = {("generation", "ckpt"): "the generation is of a checkpoint to download"}
STOPPING = {("strict", "skip_unreadable"): "a strict run stops at the first image that cannot be read"}
