"""Values with types to JSON and back: keys, order, what may be absent, and what is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from effconv.errors import EffconvError
from effconv.parity.plain import INLINED, REST, Key, Plain


@dataclass(frozen=True, kw_only=True)
class Row(Plain):
    """A part."""

    name: str
    error: float | None


@dataclass(frozen=True, kw_only=True)
class Tail(Plain):
    """What several share."""

    rows: tuple[Row, ...]
    free: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Whole(Plain):
    """A record."""

    size: tuple[int, int]
    holds: bool
    metrics_engine: Annotated[str, Key("engine")]
    tail: Annotated[Tail, INLINED]
    named: Mapping[str, Row]
    threads: int | None = None


@dataclass(frozen=True, kw_only=True)
class Corners(Plain):
    """A part that may be left out; its keys may hold nothing all the same."""

    left: int | None
    right: int | None


@dataclass(frozen=True, kw_only=True)
class Open(Plain):
    """A record with keys of somebody else's."""

    label: str
    more: Annotated[Mapping[str, Any], REST]
    corners: Annotated[Corners | None, INLINED] = None


def written(**changed: Any) -> dict[str, Any]:
    row = {"name": "a", "error": 0.5}
    whole = {"size": [3, 4], "holds": True, "engine": "fast", "rows": [row, {"name": "b", "error": None}]}
    return {**whole, "free": {"any": [1, {"x": None}]}, "named": {"first": row}, **changed}


def test_what_is_read_is_written_again_in_the_same_order() -> None:
    for plain in (written(), written(threads=2)):
        value = Whole.read(plain)
        assert list(value.plain().items()) == list(plain.items())
    assert (value.size, value.metrics_engine, value.threads) == ((3, 4), "fast", 2)
    assert value.tail.rows == (Row(name="a", error=0.5), Row(name="b", error=None))
    assert value.named["first"] == value.tail.rows[0]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rows": [{"name": "a"}]}, r"Whole\.rows\[0\]\.error: is missing"),
        ({"rows": {"name": "a"}}, r"Whole\.rows: expected a list"),
        ({"rows": "ab"}, r"Whole\.rows: expected a list"),
        ({"named": []}, r"Whole\.named: expected an object"),
        ({"named": {"first": 3}}, r"Whole\.named\.first: expected an object, found 3"),
        ({"size": [3]}, r"Whole\.size: expected 2 values, found 1"),
        ({"size": [3, 4.5]}, r"Whole\.size\[1\]: expected int, found 4\.5"),
        ({"size": [3, True]}, r"Whole\.size\[1\]: expected int, found True"),
        ({"holds": None}, r"Whole\.holds: expected bool, found None"),
        ({"metrics_engine": "fast"}, r"Whole: expected only keys that are known, found metrics_engine"),
    ],
)
def test_what_is_no_such_record_is_named(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(EffconvError, match=said):
        Whole.read(written(**changed))


def test_what_is_missing_is_named_wherever_it_stands() -> None:
    for key in ("size", "engine", "free"):
        plain = written()
        del plain[key]
        with pytest.raises(EffconvError, match=rf"Whole\.{key}: is missing"):
            Whole.read(plain)
    with pytest.raises(EffconvError, match="Whole: expected an object"):
        Whole.read([])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("plain", "corners"),
    [
        ({"label": "a"}, None),
        ({"label": "a", "left": None, "right": None}, Corners(left=None, right=None)),
        ({"label": "a", "anything": [1], "else": None, "left": 1, "right": 2}, Corners(left=1, right=2)),
    ],
)
def test_a_part_may_be_left_out_and_keys_may_be_anybodys(plain: dict[str, Any], corners: Corners | None) -> None:
    value = Open.read(plain)
    assert value.corners == corners
    assert value.more == {key: each for key, each in plain.items() if key not in ("label", "left", "right")}
    assert list(value.plain().items()) == list(plain.items())


def test_half_of_a_part_is_none() -> None:
    with pytest.raises(EffconvError, match=r"Open\.right: is missing"):
        Open.read({"label": "a", "left": 1})
