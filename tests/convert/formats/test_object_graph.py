"""The graph of objects in a TF2 checkpoint, and the string it is stored as."""

import numpy as np
import pytest

from bundle_bytes import open_bundle, write
from effconv.convert.formats.object_graph import SavedVariable, object_graph
from effconv.convert.formats.wire import read_fields
from effconv.errors import CheckpointError

KEY = "/.ATTRIBUTES/VARIABLE_VALUE"
Node = tuple[dict[str, int], tuple[str, str, str] | None]


def strings(message: bytes) -> dict[int, str]:
    return {number: value.decode() for number, value in read_fields(message) if isinstance(value, bytes)}


def parse(graph: bytes) -> list[Node]:
    """({attribute: number of its node}, the variable it is) of every node that leads to one."""
    nodes: list[Node] = []
    for number, message in read_fields(graph):
        assert number == 1
        assert isinstance(message, bytes)
        children, variable = {}, None
        for field, value in read_fields(message):
            assert isinstance(value, bytes)
            if field == 1:
                reference = dict(read_fields(value))
                name = reference[2]
                assert isinstance(name, bytes)
                children[name.decode()] = int(reference.get(1, 0))
            elif field == 2:
                attribute = strings(value)
                variable = (attribute[1], attribute[2], attribute[3])
            else:
                assert (field, value) == (5, b"\x08\x01")
        nodes.append((children, variable))
    return nodes


def found(nodes: list[Node]) -> dict[str, tuple[str, str, str]]:
    """{attributes from the root with / between: variable}, as TensorFlow walks there."""
    variables = {}
    waiting = [("", 0)]
    while waiting:
        path, number = waiting.pop()
        children, variable = nodes[number]
        if variable:
            variables[path] = variable
        waiting += [(f"{path}/{name}".lstrip("/"), child) for name, child in children.items()]
    return variables


def test_every_variable_is_reached_by_its_attributes() -> None:
    paths = ["a/0/kernel", "a/1/kernel", "b/kernel", "c", "a/0/bias"]
    nodes = parse(object_graph(SavedVariable(path, f"its/{path}", path + KEY) for path in paths))
    assert found(nodes) == {path: ("VARIABLE_VALUE", f"its/{path}", path + KEY) for path in paths}
    # Breadth first, each level as it was met.
    assert [children for children, _ in nodes[:3]] == [{"a": 1, "b": 2, "c": 3}, {"0": 4, "1": 5}, {"kernel": 6}]


def test_a_variable_that_is_reached_twice_is_one_node() -> None:
    key = "a/kernel" + KEY
    nodes = parse(object_graph([SavedVariable("a/kernel", "k", key), SavedVariable("a/all/0", "k", key)]))
    row = ("VARIABLE_VALUE", "k", key)
    assert nodes == [({"a": 1}, None), ({"kernel": 2, "all": 3}, None), ({}, row), ({"0": 2}, None)]


@pytest.mark.parametrize("length", [0, 1, 127, 128, 70_000])
def test_a_string_comes_back_checked(length: int) -> None:
    text = bytes(range(256)) * (length // 256) + bytes(length % 256)  # zeros at its end, too
    index, data = write({"text": text, "z": np.ones(3, np.float32)})
    bundle = open_bundle(index, data)
    bundle.check()
    assert (bundle.entries["text"].dtype, bundle.entries["text"].shape) == ("string", ())
    assert data[: bundle.entries["text"].size].endswith(text)
    assert np.array_equal(bundle.read("z"), np.ones(3))
    if length:
        changed = bytearray(data)
        changed[bundle.entries["text"].size - 1] ^= 1
        with pytest.raises(CheckpointError, match=r"variable text: checksum .* expected"):
            open_bundle(index, bytes(changed)).check()
