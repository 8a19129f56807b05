"""The graph of objects in a TF2 checkpoint, and the string it is stored as."""

import numpy as np
import pytest

from bundle_bytes import GOLDEN, OBJECT_GRAPH, open_bundle, write
from effconv.convert.formats.object_graph import SavedVariable, object_graph
from effconv.convert.formats.wire import read_fields
from effconv.convert.sources import open_checkpoint
from effconv.errors import CheckpointError

KEY = "/.ATTRIBUTES/VARIABLE_VALUE"
Node = tuple[dict[str, int], tuple[str, str, str] | None]


def strings(message: bytes) -> dict[int, str]:
    return {number: value.decode() for number, value in read_fields(message) if isinstance(value, bytes)}


def parse(graph: bytes) -> list[Node]:
    """({attribute: number of its node}, the variable it is) of every node that leads to one."""
    nodes: list[Node] = []
    for number, message in read_fields(graph):
        assert number == 1 and isinstance(message, bytes)
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


@pytest.mark.parametrize("name", ["tiny-swish", "tiny-sum8", "tiny-lite"])
def test_the_golden_checkpoints_name_the_same(name: str) -> None:
    """What TensorFlow wrote holds objects without variables, too, and says so of them in another last field."""
    checkpoint = open_checkpoint(GOLDEN / name / "keras")
    ((index, data),) = [
        ((GOLDEN / name / "keras" / "ckpt.index").read_bytes(), (GOLDEN / name / "keras" / "ckpt.data-00000-of-00001").read_bytes())
    ]
    entry = open_bundle(index, data).entries[OBJECT_GRAPH]
    graph = data[entry.offset : entry.offset + entry.size]
    keys = [key for key in checkpoint.variables if key != OBJECT_GRAPH]
    ours = object_graph(SavedVariable(key.removesuffix(KEY), "", key) for key in keys)
    for _, _, key in found(parse(ours)).values():
        assert key.encode() in graph
    assert {key for _, _, key in found(parse(ours)).values()} == set(keys)


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
        with pytest.raises(CheckpointError, match="variable text: checksum .* expected"):
            open_bundle(index, bytes(changed)).check()
