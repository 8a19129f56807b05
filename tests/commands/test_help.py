"""Every line of every `--help` says what it means without the line above it."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from effconv.cli import main
from effconv.commands.help_page import FIRST_COMMANDS, ONE_LIST, OTHER, SECTIONS, Command, section_of

FIRST = {"For", "Of", "In", "On", "With", "As", "And", "Or", "Only", "Their", "Its", "It", "They", "These", "Those"}
ANTECEDENTS = {"it", "its", "they", "them", "their", "these", "those", "same"}
ONE_OPTION = {"--out": "--output", "--data": "--coco"}  # options that `train` spells otherwise than other commands


def commands(name: str = "effconv", command: click.Command = main) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for child in command.commands.values():
            yield from commands(f"{name} {child.name}", child)


def lines() -> Iterator[tuple[str, str]]:
    """(command and option, help) of all."""
    for name, command in commands():
        for each in command.params:
            yield f"{name} {each.opts[-1]}", getattr(each, "help", None) or ""


def faults(text: str) -> list[str]:
    """Why a line of help does not read on its own."""
    words = re.findall(r"[\w'-]+", text)
    found = []
    if len(words) < 4:
        found.append("has fewer than four words")
    if not re.match(r"[A-Z]", text):
        found.append("does not begin with a capital letter")
    if not text.endswith("."):
        found.append("does not end with a full stop")
    # "With --calibrate-on: ..." says what it belongs to.
    if words and words[0] in FIRST and not re.match(r"With --[\w-]+", text):
        found.append(f"begins with {words[0]}")
    found += [f"says {word!r} of what another line names" for word in words[:3] if word.lower() in ANTECEDENTS]
    return found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "For a batch of 64.",
        "How it falls.",
        "How it falls after warm-up.",
        "The same for the heads' repeats.",
        "Their names, in order, with commas.",
        "Only of this model.",
        "Images at once.",
        "coco2 (default), coco, ...",
        "learning rate for a batch of 64.",
        "Learning rate for a batch of 64",
    ],
)
def test_what_does_not_read_on_its_own_is_noticed(text: str) -> None:
    assert faults(text)


def test_every_line_of_help_reads_on_its_own() -> None:
    found = {place: faults(text) for place, text in lines()}
    assert len(found) > 300
    assert {place: reasons for place, reasons in found.items() if reasons} == {}


def test_no_two_options_are_described_by_the_same_words() -> None:
    options = defaultdict(set)
    for place, text in lines():
        name = place.rpartition(" ")[2]
        if name.startswith("-"):
            options[text].add(ONE_OPTION.get(name, name))
    assert {text: names for text, names in options.items() if len(names) > 1} == {}


def test_every_command_is_summed_up_in_a_sentence_that_a_list_has_room_for() -> None:
    for name, command in commands():
        if isinstance(command, click.Group):
            room = 80 - 2 - 6 - max(map(len, command.commands))
            for child in command.commands.values():
                text = child.get_short_help_str(room)
                assert text.endswith("."), f"{name} {child.name}: {text}"
                assert not text.endswith("..."), f"{name} {child.name}: {text}"
                assert not faults(text), (f"{name} {child.name}", text, faults(text))


def test_every_option_of_a_long_page_has_a_section() -> None:
    """A new option is named in `SECTIONS`, once."""
    unnamed = []
    for name, command in commands():
        assert isinstance(command, Command | click.Group), f"{name}: cls=Command"
        options = [each for each in command.params if isinstance(each, click.Option)]
        if len(options) > ONE_LIST:
            unnamed += [f"{name} {each.opts[-1]}" for each in options if section_of(each) == OTHER]
    assert unnamed == []
    names = [name for section in SECTIONS.values() for name in section]
    assert len(names) == len(set(names))


def test_no_option_is_left_out_of_a_page() -> None:
    for name, command in commands():
        page = CliRunner().invoke(main, [*name.split()[1:], "--help"], terminal_width=80).stdout
        lists = page[re.search(r"(?m)^[A-Z].*:$", page).start() :]
        shown = re.findall(r"(?m)^  (?:-\w, )?(--[\w-]+)", lists)
        options = [each.opts[-1] for each in command.params if isinstance(each, click.Option)]
        assert sorted(shown) == sorted([*options, "--help"]), name
        assert max(map(len, page.splitlines())) <= 80, name


def test_every_command_is_under_one_heading() -> None:
    listed = [command.name for group in main.headings.values() for command in group]
    assert sorted(listed) == sorted(main.commands)
    page = CliRunner().invoke(main, ["--help"]).stdout
    assert all(f"\n{heading}:\n" in page for heading in main.headings)
    assert re.findall(r"(?m)^  ([a-z0-9]+)  ", page) == listed


def test_without_a_command_five_are_named_to_begin_with() -> None:
    found = CliRunner().invoke(main, [])
    assert (found.exit_code, found.stdout) == (2, "")
    assert all(f"  {line} " in found.stderr and purpose in found.stderr for line, purpose in FIRST_COMMANDS)
    assert "effconv --help" in found.stderr
    assert len(found.stderr.splitlines()) <= 10
    assert max(map(len, found.stderr.splitlines())) <= 80


@pytest.mark.parametrize("line", [line for line, _ in FIRST_COMMANDS])
def test_a_command_to_begin_with_is_one_that_is_understood(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program, name, *arguments = line.split()
    assert program == "effconv"
    assert main.commands[name].make_context(name, arguments).params
