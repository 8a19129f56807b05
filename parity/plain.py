"""Records of measurements, and their rows, as values with types; the one place that makes JSON's values of them.

A record is a frozen dataclass on `Plain`. Its fields, in their order, are the keys of the JSON. `Annotated[..., Key]`
gives a key that is another word than the attribute, `Annotated[..., INLINED]` puts the keys of a part among those of
the whole, `Annotated[..., REST]` those of a mapping that no other field has, and a field with a default is left out of
the JSON while it has that value; an inlined part with a default is read where any of its keys is there.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Self, Union, get_args, get_origin, get_type_hints

from ..errors import EffconvError

INLINED = "inlined"  # the mark of a field that is itself `Plain`, whose keys stand among the others
REST = "rest"  # the mark of a mapping of all keys that are of no other field
SCALARS = {str: (str,), bool: (bool,), int: (int,), float: (int, float)}  # JSON writes 3.0 and 3 apart, both numbers


class Key(NamedTuple):
    """The mark of a field that the JSON has under another name."""

    name: str


class Part(NamedTuple):
    """A field, as it is written."""

    attribute: str
    key: str
    kind: Any  # its annotation without marks
    inlined: bool
    rest: bool
    default: Any  # dataclasses.MISSING where it has to be there


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A value that is written as a JSON object."""

    def plain(self) -> dict[str, Any]:
        """The value as JSON has it."""
        found: dict[str, Any] = {}
        for part in _parts(type(self)):
            value = getattr(self, part.attribute)
            if part.default is not dataclasses.MISSING and value == part.default:
                continue
            if part.inlined or part.rest:
                found |= dict(_plain(value))
            else:
                found[part.key] = _plain(value)
        return found

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Self:
        """The value of such JSON. Raises EffconvError that names what is missing, of another kind, or unknown."""
        found: Self = _read(cls, plain, cls.__name__)
        return found


def _parts(kind: Any) -> tuple[Part, ...]:
    """The fields of a class on `Plain`."""
    return _found_parts(kind)


@functools.cache
def _found_parts(kind: Any) -> tuple[Part, ...]:
    hints, found = get_type_hints(kind, include_extras=True), []
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        inner, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        key = next((mark.name for mark in marks if isinstance(mark, Key)), field.name)
        if INLINED in marks and get_origin(inner) in (Union, UnionType):
            inner = _other_than_none(inner)
        found.append(Part(field.name, key, inner, INLINED in marks, REST in marks, field.default))
    return tuple(found)


def _other_than_none(kind: Any) -> Any:
    """What a value of `kind | None` is, where it is there."""
    (other,) = (each for each in get_args(kind) if each is not NoneType)
    return other


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, float)):  # most of them, and told apart the fastest
        return value
    if isinstance(value, Plain):
        return value.plain()
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value


def _keys(kind: Any) -> frozenset[str]:
    """The keys of a class on `Plain`, those of its inlined parts among them."""
    found: set[str] = set()
    for part in _parts(kind):
        if not part.rest:
            found |= _keys(part.kind) if part.inlined else {part.key}
    return frozenset(found)


def _read(kind: Any, value: Any, place: str) -> Any:
    """`value` of JSON as the annotation `kind` has it; `place` is where it stands, for messages."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        return None if value is None else _read(_other_than_none(kind), value, place)
    if origin is tuple:
        _require(value, Sequence, "a list", place)
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(value):
            raise EffconvError(f"{place}: expected {len(kinds)} values, found {len(value)}")
        return tuple(
            _read(one, each, f"{place}[{at}]") for at, (one, each) in enumerate(zip(kinds, value, strict=True))
        )
    if origin is Mapping:
        _require(value, Mapping, "an object", place)
        return {name: _read(arguments[1], each, f"{place}.{name}") for name, each in value.items()}
    if kind in SCALARS:
        if not isinstance(value, SCALARS[kind]) or (isinstance(value, bool) and kind is not bool):
            raise EffconvError(f"{place}: expected {kind.__name__}, found {value!r:.40}")
        return value
    _require(value, Mapping, "an object", place)
    unknown = sorted(set(value) - _keys(kind))
    if unknown and not any(part.rest for part in _parts(kind)):
        raise EffconvError(f"{place}: expected only keys that are known, found {', '.join(unknown)}")
    return _read_fields(kind, value, place)


def _require(value: Any, kind: Any, word: str, place: str) -> None:
    if not isinstance(value, kind) or isinstance(value, str):
        raise EffconvError(f"{place}: expected {word}, found {value!r:.40}")


def _read_fields(kind: type[Plain], value: Mapping[str, Any], place: str) -> Plain:
    given: dict[str, Any] = {}
    for part in _parts(kind):
        if part.rest:
            given[part.attribute] = {key: each for key, each in value.items() if key not in _keys(kind)}
        elif part.inlined:
            if part.default is dataclasses.MISSING or not _keys(part.kind).isdisjoint(value):
                given[part.attribute] = _read_fields(part.kind, value, place)
        elif part.key in value:
            given[part.attribute] = _read(part.kind, value[part.key], f"{place}.{part.key}")
        elif part.default is dataclasses.MISSING:
            raise EffconvError(f"{place}.{part.key}: is missing")
    return kind(**given)
