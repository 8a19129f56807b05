"""The graph of objects in a TF2 checkpoint: from the object that was saved, by attributes, to every variable.

Format: TensorFlow `core/protobuf/trackable_object_graph.proto`. Restoring walks this graph beside the Python objects,
attribute by attribute, and takes from the bundle the tensor whose key it finds there; names of tensors play no part.
"""

from collections.abc import Iterable
from typing import NamedTuple

from .wire import bytes_field, varint_field

# Fields of the messages.
NODES = 1  # of TrackableObjectGraph
CHILDREN, ATTRIBUTES, HAS_VALUES = 1, 2, 5  # of TrackableObject
NODE_ID, LOCAL_NAME = 1, 2  # of ObjectReference
NAME, FULL_NAME, KEY = 1, 2, 3  # of SerializedTensor
VARIABLE = b"VARIABLE_VALUE"
TRUE = bytes_field(HAS_VALUES, varint_field(1, 1))  # a BoolValue: some variable lies at or below the object


class SavedVariable(NamedTuple):
    """A variable: attributes from the root to it with `/` between, its own name, and its tensor's in the bundle."""

    path: str
    full_name: str
    key: str


def object_graph(variables: Iterable[SavedVariable]) -> bytes:
    """The serialised TrackableObjectGraph of these variables and every object on the way to them.

    Variables of one key are one, reached in several ways. Nodes are numbered breadth first, as TensorFlow does it.
    """
    saved = {variable.path: variable for variable in variables}
    first = {variable.key: path for path, variable in reversed(saved.items())}
    again = {path: first[variable.key] for path, variable in saved.items() if first[variable.key] != path}
    children: dict[str, list[str]] = {"": []}
    for path in saved:
        above = ""
        for name in path.split("/"):
            here = f"{above}/{name}".lstrip("/")
            if here not in children:
                children[here] = []
                children[above].append(here)
            above = here
    order = [""]
    for path in order:  # which grows on the way
        order += [each for each in children[path] if each not in again]
    numbers = {path: number for number, path in enumerate(order)}
    numbers |= {path: numbers[other] for path, other in again.items()}
    return b"".join(bytes_field(NODES, _node(children[path], numbers, saved.get(path))) for path in order)


def _node(children: list[str], numbers: dict[str, int], variable: SavedVariable | None) -> bytes:
    message = b""
    for path in children:
        name = path.rpartition("/")[2].encode()
        message += bytes_field(CHILDREN, varint_field(NODE_ID, numbers[path]) + bytes_field(LOCAL_NAME, name))
    if variable:
        tensor = bytes_field(NAME, VARIABLE) + bytes_field(FULL_NAME, variable.full_name.encode())
        message += bytes_field(ATTRIBUTES, tensor + bytes_field(KEY, variable.key.encode()))
    return message + TRUE
