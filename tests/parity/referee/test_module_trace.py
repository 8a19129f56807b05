"""What somebody recorded of their own network, by the recorder of docs/trace.md, beside the official one."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from strange_port import StrangePort, with_weights_of
from torch import nn

from effconv.cli import main
from effconv.effdet_torch.model import EfficientDet
from effconv.errors import EffconvError
from effconv.parity.referee.module_trace import compare_recording, read_recording
from tiny_models import load_tiny

SWISH = Path(__file__).parent.parent.parent / "golden" / "tiny-swish"
Record = Callable[[nn.Module, torch.Tensor, Path], None]


@pytest.fixture(scope="module")
def model() -> EfficientDet:
    return load_tiny(SWISH)


@pytest.fixture(scope="module")
def record(repository: Path) -> Record:
    """The recorder, as the page has it."""
    code = re.findall(r"```python\n(.*?)```", (repository / "docs" / "trace.md").read_text(), re.DOTALL)
    assert len(code) == 1
    assert len(code[0].split("def record")[1].splitlines()) <= 30
    namespace: dict[str, Any] = {}
    exec(code[0], namespace)
    return namespace["record"]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 128, 160)).astype(np.float32))


def run(*options: object) -> Result:
    subject = ("--model", str(SWISH / "config.json"), "--ckpt", str(SWISH))
    return CliRunner().invoke(main, ["parity", *subject, "--candidate-trace", *map(str, options)])


def test_a_right_network_holds(model: EfficientDet, record: Record, images: torch.Tensor, tmp_path: Path) -> None:
    record(with_weights_of(model), images, tmp_path / "mine.npz")
    result = run(tmp_path / "mine.npz", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["ok"]
    assert len(found["rows"]) > 150
    assert {each["evidence"] for each in found["pairing"]} == {"its values are ours"}
    assert {name for row in found["rows"] for name in row["checks"]} == {"float32 accumulated"}
    assert found["images"]["shape"] == [1, 3, 128, 160]


def test_effconvs_own_names_are_known(
    model: EfficientDet, record: Record, images: torch.Tensor, tmp_path: Path
) -> None:
    record(model, images, tmp_path / "ours.npz")
    found = compare_recording(tmp_path / "ours.npz", model, None, "")
    assert found.ok
    assert {tap.evidence for tap in found.taps} == {"it has our name"}
    assert len(found.rows) == len(found.record["rows"]) > 200


def test_a_mistake_shows_where_it_is(model: EfficientDet, record: Record, images: torch.Tensor, tmp_path: Path) -> None:
    kind = type("Mistaken", (StrangePort,), {"pool_padding": 0.0})
    record(with_weights_of(model, kind), images, tmp_path / "mine.npz")
    right = compare_recording(_right(model, record, images, tmp_path), model, None, "")
    names = {tap.layer.module: tap.module for tap in right.taps}
    (tmp_path / "names.json").write_text(json.dumps(names))
    result = run(tmp_path / "mine.npz", "--names", tmp_path / "names.json", "--json")
    assert result.exit_code == 1, result.output
    found = json.loads(result.stdout)
    # Max-pooling is a function there: what first hands its result on is where it shows.
    assert found["first_failure"] == "bifpn.extra_levels.6"
    assert run(tmp_path / "mine.npz", "--names", tmp_path / "names.json").exit_code == 1


def _right(model: EfficientDet, record: Record, images: torch.Tensor, folder: Path) -> Path:
    record(with_weights_of(model), images, folder / "right.npz")
    return folder / "right.npz"


def test_float32_that_is_none_is_refused(
    model: EfficientDet, record: Record, images: torch.Tensor, tmp_path: Path
) -> None:
    """A recording in bfloat16, written as float32: three digits are not rounding."""
    record(model, images, tmp_path / "ours.npz")
    with np.load(tmp_path / "ours.npz") as file:
        coarse = {name: torch.from_numpy(file[name]).bfloat16().float().numpy() for name in file.files}
    np.savez(tmp_path / "coarse.npz", **{**coarse, "images": images.numpy()})
    found = compare_recording(tmp_path / "coarse.npz", model, None, "")
    assert found.first_fault == "backbone.stem.conv"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros((1, 2, 3, 3), np.float32)}, "expected images of"),
        ({"images": np.zeros((3, 8, 8), np.float32)}, "expected images of"),
        ({"images": np.zeros((1, 3, 128, 128), np.float32)}, "expected activations in float32; none found"),
        ({"images": np.zeros((1, 3, 128, 128))}, "images cannot be read"),
        (
            {"images": np.zeros((1, 3, 128, 128), np.float32), "a": np.ones((1, 2, 3, 3), np.float32)},
            "none of its 1 activations is a layer of tiny-swish",
        ),
    ],
)
def test_other_files_are_refused(model: EfficientDet, arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(EffconvError, match=message):
        compare_recording(tmp_path / "x.npz", model, None, "")
    result = run(tmp_path / "x.npz")
    assert (result.exit_code, "Traceback" in result.output) == (2, False)


def test_damage_is_refused(record: Record, model: EfficientDet, images: torch.Tensor, tmp_path: Path) -> None:
    path = tmp_path / "ours.npz"
    record(model.backbone.stem, images, path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(EffconvError, match="not a readable archive"):
        read_recording(path)
    np.savez_compressed(path, images=images.numpy())
    with pytest.raises(EffconvError, match="images cannot be read"):
        read_recording(path)
