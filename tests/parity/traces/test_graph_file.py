"""Damaged and hostile graph files: refused in one line that names the file, whatever is in them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effconv.convert.formats.wire import read_fields
from effconv.errors import EffconvError
from effconv.parity.reference.network import import_tensorflow
from effconv.parity.traces.graph import GraphTrace
from effconv.parity.traces.graph_file import GraphFile
from exported_graphs import CONFIG, frozen_graph, saved_model

pytestmark = pytest.mark.tf
VALUES = "variables/variables.data-00000-of-00001"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel, not to be changed."""
    return saved_model(tmp_path_factory.mktemp("saved") / "model")


def first_weight(definition: Any) -> Any:
    """The node that holds some kernel or norm of the network."""
    return next(node for node in definition.node if node.op == "Const" and node.name.startswith("Const"))


def refusal(path: Path) -> str:
    """Why a file is refused; empty if it is not."""
    try:
        GraphTrace(path, CONFIG)
    except EffconvError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("operation", ["PyFunc", "ReadFile", "Placeholder", "MadeUpCustomOp"])
def test_operations_that_could_do_harm_are_refused(operation: str, tmp_path: Path) -> None:
    def poison(definition: Any) -> None:
        first_weight(definition).op = operation

    with pytest.raises(EffconvError, match=f"which is of type {operation}; refused"):
        GraphTrace(frozen_graph(tmp_path / "model.pb", change=poison), CONFIG)


def test_constants_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    def inflate(definition: Any) -> None:
        value = first_weight(definition).attr["value"].tensor
        value.Clear()
        value.dtype = 1
        value.float_val.append(1.0)
        for _ in range(4):
            value.tensor_shape.dim.add(size=1000)

    with pytest.raises(EffconvError, match="too large for an EfficientDet"):
        GraphTrace(frozen_graph(tmp_path / "model.pb", change=inflate), CONFIG)


def test_tensors_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    def inflate(definition: Any) -> None:
        names = []
        for axis, sizes in ((1, (1, 10**6, 1, 8)), (2, (1, 1, 10**6, 8))):
            tall = definition.node.add(name=f"tall{axis}", op="Const")
            tall.attr["dtype"].type = tall.attr["value"].tensor.dtype = 1
            tall.attr["value"].tensor.float_val.append(1.0)
            for size in sizes:
                tall.attr["value"].tensor.tensor_shape.dim.add(size=size)
            names.append(tall.name)
        definition.node.add(name="huge", op="Mul", input=names).attr["T"].type = 1
        next(node for node in definition.node if node.name.endswith("blocks_0/se/Mean")).input[0] = "huge"

    with pytest.raises(EffconvError, match="huge would have 8000000000000 elements"):
        GraphTrace(frozen_graph(tmp_path / "model.pb", change=inflate), CONFIG)


def test_functions_that_never_end_are_refused(tmp_path: Path) -> None:
    def recurse(definition: Any) -> None:
        function = definition.library.function.add()
        function.signature.name = "again"
        for number in range(3):
            function.node_def.add(name=f"call{number}", op="PartitionedCall").attr["f"].func.name = "again"
        definition.node.add(name="start", op="PartitionedCall").attr["f"].func.name = "again"

    with pytest.raises(EffconvError, match="more functions within functions"):
        GraphTrace(frozen_graph(tmp_path / "model.pb", change=recurse), CONFIG)


@pytest.mark.parametrize("deep", [16, 17])
def test_functions_may_call_functions_sixteen_deep(deep: int, tmp_path: Path) -> None:
    def nest(definition: Any) -> None:
        for number in range(1, deep + 1):
            function = definition.library.function.add()
            function.signature.name = f"depth{number}"
            inner = function.node_def.add(name="inner", op="PartitionedCall" if number < deep else "NoOp")
            inner.attr["f"].func.name = f"depth{number + 1}"
        definition.node.add(name="start", op="PartitionedCall").attr["f"].func.name = "depth1"

    path = frozen_graph(tmp_path / "model.pb", change=nest)
    if deep == 16:
        GraphTrace(path, CONFIG)
    else:
        with pytest.raises(EffconvError, match="more functions within functions"):
            GraphTrace(path, CONFIG)


@pytest.mark.parametrize("kind", ["call", "identity", "add"])
def test_tensors_without_a_beginning_are_refused(kind: str, tmp_path: Path) -> None:
    def circle(definition: Any) -> None:
        function = definition.library.function.add()
        function.signature.name = "same"
        function.signature.input_arg.add(name="x")
        function.signature.output_arg.add(name="y")
        function.ret["y"] = "x"
        definition.node.add(name="call", op="PartitionedCall", input=["call"]).attr["f"].func.name = "same"
        definition.node.add(name="identity", op="Identity", input=["identity"]).attr["T"].type = 1
        definition.node.add(name="add", op="AddV2", input=["add", "add"]).attr["T"].type = 1
        next(node for node in definition.node if node.name.endswith("blocks_0/se/Mean")).input[0] = kind

    message = {"call": "in a circle", "identity": "computed from itself", "add": "TensorFlow cannot run it"}[kind]
    with pytest.raises(EffconvError, match=message):
        GraphTrace(frozen_graph(tmp_path / "model.pb", change=circle), CONFIG)


def test_names_that_are_not_text_are_refused(tmp_path: Path) -> None:
    def name(definition: Any) -> None:
        first_weight(definition).op = "Const\n\x1b[2J"

    with pytest.raises(EffconvError, match="name is not text"):
        GraphTrace(frozen_graph(tmp_path / "model.pb", change=name), CONFIG)


def test_damaged_files(tmp_path: Path) -> None:
    path = frozen_graph(tmp_path / "damaged.pb")
    whole = path.read_bytes()
    random = np.random.RandomState(0)
    flipped = [bytearray(whole) for _ in range(20)]
    for data in flipped:
        data[random.randint(len(data))] ^= 1 << random.randint(8)
    cut = [whole[:size] for size in range(0, len(whole), len(whole) // 40)]
    refused = 0
    for data in [b"not a graph", *cut, *flipped]:
        path.write_bytes(data)
        message = refusal(path)
        if message:
            assert message.startswith(str(path))
            assert "\n" not in message
            refused += 1
    assert refused > len(cut)  # a flipped bit may also be in a weight, or in a name that is not looked for


def test_paths_that_hold_no_graph(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.pb", tmp_path):
        with pytest.raises(EffconvError, match=r"cannot be read \(No such file"):
            GraphFile(path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(EffconvError, match="no graph in it"):
        GraphFile(tmp_path)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (VALUES, lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:], "checksum"),
        (VALUES, lambda data: data[:5000], "cut off"),
        (VALUES, None, "cannot be read"),
        ("variables/variables.index", None, "no such checkpoint"),
        ("variables/variables.index", lambda data: b"nonsense", "variables.index"),
        ("saved_model.pb", lambda data: data[: len(data) // 2], "not a SavedModel, or damaged"),
        ("saved_model.pb", lambda data: data.replace(b"weights", b"weighty"), "is not in"),
    ],
)
def test_damaged_saved_model(name: str, damage: Any, message: str, folder: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(folder, tmp_path / "model")
    data = (copied / name).read_bytes()
    (copied / name).unlink()
    if damage:
        (copied / name).write_bytes(damage(data))
    with pytest.raises(EffconvError, match=message) as raised:
        GraphTrace(copied, CONFIG)
    assert str(raised.value).startswith(str(copied))
    assert "\n" not in str(raised.value)


def test_variables_need_the_saved_model_folder(folder: Path, tmp_path: Path) -> None:
    fields = read_fields((folder / "saved_model.pb").read_bytes())
    meta = import_tensorflow().compat.v1.MetaGraphDef.FromString(next(value for number, value in fields if number == 2))
    path = tmp_path / "model.pb"
    path.write_bytes(meta.graph_def.SerializeToString())
    with pytest.raises(EffconvError, match="has no value in the file; freeze the graph"):
        GraphTrace(path, CONFIG)
