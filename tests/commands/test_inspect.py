"""`effconv inspect` of what is no TensorFlow checkpoint: PyTorch weights and ONNX graphs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.numpy import save_file

from effconv.cli import main
from effconv.convert.rules import rules
from effconv.convert.weights_file import save_weights
from effconv.effdet_torch.config import get_config


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["inspect", *(str(argument) for argument in arguments)])


def inspected(*arguments: object) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


@pytest.fixture
def state() -> dict[str, np.ndarray]:
    return {
        rule.torch: np.zeros(rule.layout.torch_shape(rule.shape), np.float32) for rule in rules(get_config("lite0"))
    }


def test_pytorch_weights_say_their_kind_model_and_whether_they_were_checked(
    state: dict[str, np.ndarray], tmp_path: Path
) -> None:
    ours, theirs, pickled = (tmp_path / name for name in ("x.safetensors", "y.safetensors", "x.pth"))
    save_weights(state, get_config("lite0"), ours)
    save_file(state, theirs)
    torch.save({key: torch.from_numpy(array) for key, array in state.items()}, pickled)
    found = inspected(ours)
    assert found["container"] == "PyTorch weights (.safetensors)"
    assert found["data"] == "every checksum holds"
    assert found["model"] == "efficientdet-lite0"
    assert inspected(ours, "--no-verify")["data"] == "not checked"
    for path in (theirs, pickled):
        assert inspected(path)["data"] == "no checksums in it"
        assert inspected(path)["model"] == "not named"
        assert run(path).stderr == ""  # no notice: the answer says it
    for path in (ours, theirs, pickled):
        found = inspected(path)
        (fit,) = found["fits"]
        assert fit == f"efficientdet-lite0 ({found['parameters']:,} parameters)"
        assert found["variables"] == len(state)
        assert all(len(line.split(maxsplit=1)) == 2 for line in run(path).stdout.splitlines()), "a row without a value"
    assert len(inspected(ours, "--tensors")["tensors"]) == len(state)


def test_damaged_weights_are_refused(state: dict[str, np.ndarray], tmp_path: Path) -> None:
    save_weights(state, get_config("lite0"), tmp_path / "x.safetensors")
    content = bytearray((tmp_path / "x.safetensors").read_bytes())
    content[-5] ^= 8
    (tmp_path / "x.safetensors").write_bytes(content)
    refused = run(tmp_path / "x.safetensors")
    assert refused.exit_code == 2
    assert " is damaged: expected float32 " in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_an_onnx_graph_says_its_inputs_outputs_and_tensors(tmp_path: Path) -> None:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Add", ["images", "bias"], ["sum"])],
        "small",
        [helper.make_tensor_value_info("images", kind, ["batch", 3])],
        [helper.make_tensor_value_info("sum", kind, ["batch", 3])],
        [onnx.numpy_helper.from_array(np.ones(3, np.float32), "bias")],
    )
    imports = [helper.make_opsetid("", 18)]
    path = tmp_path / "x.onnx"
    onnx.save(helper.make_model(graph, producer_name="effconv", opset_imports=imports), path)
    found = inspected(path, "--tensors")
    assert found["container"] == "ONNX graph, opset 18, 1 nodes, made by effconv"
    assert (found["inputs"], found["outputs"]) == (["images (batch, 3)"], ["sum (batch, 3)"])
    assert (found["model"], found["values"], found["data"]) == ("small", 3, "no checksums in it")
    assert found["tensors"] == [{"name": "bias", "dtype": "float", "shape": [3], "crc32c": None}]
    onnx.save(helper.make_model(graph, producer_name="pytorch", opset_imports=imports), path)
    assert inspected(path)["model"] == "not named"


@pytest.mark.parametrize("name", ["x.onnx", "x.safetensors", "x.pth", "x.pt", "x.h5"])
@pytest.mark.parametrize("content", [None, b"", b"\xff" * 99], ids=["missing", "empty", "garbage"])
def test_what_cannot_be_read_is_named_in_one_line(name: str, content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    refused = run(tmp_path / name)
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"effconv: {tmp_path / name}: ")
    assert len(refused.stderr.splitlines()) == 1
