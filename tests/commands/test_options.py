"""Values of options: sizes that are none or too large, and numbers that are none."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from effconv.cli import main
from effconv.commands.options import Number, parse_size
from effconv.errors import EffconvError


def test_a_size_is_height_first() -> None:
    assert parse_size(" 512X640 ") == (512, 640)
    assert parse_size("1x65536") == (1, 65536)


@pytest.mark.parametrize("text", ["100000x100000", "65537x1", "1x" + "9" * 5000])
def test_a_size_too_large_is_called_so(text: str) -> None:
    with pytest.raises(EffconvError, match=r"too large; at most 65536 pixels a side$"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "12", "0x5", "-1x5", "5x", "5x5x5", "1.5x2", "axb"])
def test_what_is_no_size_is_told_what_one_is(text: str) -> None:
    with pytest.raises(EffconvError, match=r"expected HEIGHTxWIDTH in pixels, such as 512x640$"):
        parse_size(text)


def numbers() -> Iterator[tuple[str, str]]:
    for name, command in main.commands.items():
        yield from (
            (name, each.opts[-1]) for each in command.params if isinstance(each.type, click.types.FloatParamType)
        )


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize(("name", "option"), [*numbers()])
def test_not_a_finite_number_is_refused(name: str, option: str, value: str) -> None:
    (parameter,) = (each for each in main.commands[name].params if option in each.opts)
    found = CliRunner().invoke(main, [name, option, *[value] * parameter.nargs])
    assert found.exit_code == 2
    assert f"{value} is not a finite number" in found.stderr or "inf is not in the range" in found.stderr
    assert isinstance(parameter.type, Number)
