"""Every known mistake of porting the network, planted on purpose: the comparison with the recorded layers must fail."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effconv.effdet_torch import bifpn, ops
from effconv.effdet_torch.architecture import cell_nodes
from effconv.effdet_torch.bifpn import Resample, WeightedFusion
from effconv.effdet_torch.model import EfficientDet
from effconv.parity.golden import Golden
from tiny_models import compare, load_tiny


class SymmetricConv(nn.Module):
    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        return F.conv2d(x, conv.weight, conv.bias, conv.stride, (conv.kernel_size[0] - 1) // 2, groups=conv.groups)


def symmetric_convolutions(model: EfficientDet, patch: pytest.MonkeyPatch) -> None:
    model.backbone.stem.conv = SymmetricConv(model.backbone.stem.conv)
    for block in model.backbone.blocks:
        block.depthwise = SymmetricConv(block.depthwise)


def batch_norm_epsilon(model: EfficientDet, patch: pytest.MonkeyPatch) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-5


def symmetric_max_pool(model: EfficientDet, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(bifpn, "same_max_pool", lambda x, kernel, stride: F.max_pool2d(x, kernel, stride, 1))


def zero_padded_max_pool(model: EfficientDet, patch: pytest.MonkeyPatch) -> None:
    def pool(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        (top, bottom), (left, right) = (ops.same_padding(x.shape[2 + i], kernel[i], stride[i]) for i in (0, 1))
        return F.max_pool2d(F.pad(x, (left, right, top, bottom)), kernel, stride)

    patch.setattr(bifpn, "same_max_pool", pool)


def fusion_without_relu(model: EfficientDet, patch: pytest.MonkeyPatch) -> None:
    def fuse(self: WeightedFusion, maps: list[Tensor]) -> Tensor:
        total = sum(self.edge_weights) + bifpn.FUSION_EPSILON
        return sum(x * weight / total for x, weight in zip(maps, self.edge_weights, strict=True))

    patch.setattr(WeightedFusion, "forward", fuse)


def fusion_without_epsilon(model: EfficientDet, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(bifpn, "FUSION_EPSILON", 0.0)


def one_shared_projection(model: EfficientDet, patch: pytest.MonkeyPatch) -> None:
    # In cell 0, P4's and P5's bottom-up nodes take their own projections; some ports reuse the top-down ones.
    for level_index in (1, 2):
        top_down, bottom_up = (node for node in model.bifpn.cells[0].nodes if node.level_index == level_index)
        bottom_up.resamples[0] = copy.deepcopy(top_down.resamples[0])


def dropped_bias(model: EfficientDet, patch: pytest.MonkeyPatch) -> None:
    for node in model.bifpn.cells[0].nodes:
        node.conv.pointwise.bias = None


def dropped_resample_bias(model: EfficientDet, patch: pytest.MonkeyPatch) -> None:
    model.bifpn.extra_levels["6"].conv.bias = None


def bilinear_upsampling(model: EfficientDet, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(bifpn, "resize_nearest", lambda x, size: F.interpolate(x, size, mode="bilinear"))


def pool_before_projection(model: EfficientDet, patch: pytest.MonkeyPatch) -> None:
    original = Resample.forward

    def forward(self: Resample, x: Tensor, size: tuple[int, int]) -> Tensor:
        if isinstance(self.conv, nn.Identity) or x.shape[2] <= size[0]:
            return original(self, x, size)
        return self.norm(self.conv(bifpn.same_max_pool(x, (3, 3), (2, 2))))

    patch.setattr(Resample, "forward", forward)


def one_levels_norms_for_all(model: EfficientDet, patch: pytest.MonkeyPatch) -> None:
    for norms in model.class_head.norms:
        for level in norms:
            norms[level] = copy.deepcopy(norms["3"])


def swapped_channels(model: EfficientDet, patch: pytest.MonkeyPatch) -> None:
    weight = model.backbone.stem.conv.weight
    model.backbone.stem.conv.weight = nn.Parameter(weight.detach().flip(1))


def class_major_outputs(model: EfficientDet, patch: pytest.MonkeyPatch) -> None:
    config, conv = model.config, model.class_head.predict.pointwise
    order = torch.arange(config.num_anchors * config.num_classes).reshape(config.num_anchors, -1).T.flatten()
    conv.weight, conv.bias = nn.Parameter(conv.weight.detach()[order]), nn.Parameter(conv.bias.detach()[order])


def xyxy_box_codes(model: EfficientDet, patch: pytest.MonkeyPatch) -> None:
    conv = model.box_head.predict.pointwise
    order = torch.arange(conv.out_channels).reshape(-1, 4)[:, [1, 0, 3, 2]].flatten()
    conv.weight, conv.bias = nn.Parameter(conv.weight.detach()[order]), nn.Parameter(conv.bias.detach()[order])


TRAPS = {
    trap.__name__: trap
    for trap in (
        batch_norm_epsilon,
        symmetric_convolutions,
        symmetric_max_pool,
        zero_padded_max_pool,
        fusion_without_relu,
        fusion_without_epsilon,
        one_shared_projection,
        dropped_bias,
        dropped_resample_bias,
        bilinear_upsampling,
        pool_before_projection,
        one_levels_norms_for_all,
        swapped_channels,
        class_major_outputs,
        xyxy_box_codes,
    )
}
WEIGHTED_FUSION_ONLY = ("fusion_without_relu", "fusion_without_epsilon")  # the others fuse by a plain sum
TINY = ("tiny-swish", "tiny-sum8", "tiny-lite")
PLANTED = [(trap, name) for trap in TRAPS for name in TINY if name == "tiny-swish" or trap not in WEIGHTED_FUSION_ONLY]


@pytest.mark.parametrize(("trap", "name"), PLANTED)
def test_planted_trap_fails_the_comparison(
    trap: str, name: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = repository / "tests" / "golden" / name
    model = load_tiny(tiny)
    record = sorted(tiny.glob("activations_*.npz"))[0]
    assert all(row.ok for row in compare(model, record))
    TRAPS[trap](model, monkeypatch)
    rows = compare(model, record)
    failed = [row for row in rows if not row.ok]
    print(f"{trap}: {len(failed)} of {len(rows)} layers differ, first {failed[0].name if failed else None}")
    assert failed


def test_raw_weights_fail_the_comparison(tiny: Path) -> None:
    rows = compare(load_tiny(tiny, weights="raw"), sorted(tiny.glob("activations_*.npz"))[0])
    assert not rows[0].ok
    assert sum(row.ok for row in rows) == 0


def fuse_recorded_inputs(repository: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """{node: (what our fusion makes of the recorded inputs, what was recorded)}, on the recorded samples.

    Fusion is elementwise, and inputs and output of a node are sampled at the same places.
    """
    folder = repository / "tests" / "golden" / "tiny-swish"
    model, golden = load_tiny(folder), Golden(folder / "activations_128x160.npz")
    found = {}
    for cell in range(model.config.fpn_cells):
        for index, node in enumerate(cell_nodes(model.config, cell)):
            name = f"fpn_cells/cell_{cell}/fnode{index}"
            features = len(model.config.levels) + index
            places = [f"{name}/resample_{i}_{source}_{features}" for i, source in enumerate(node.inputs)]
            maps = [torch.from_numpy(golden[place].sample) for place in places]
            with torch.inference_mode():
                fused = model.bifpn.cells[cell].nodes[index].fuse(maps)
            found[name] = fused, torch.from_numpy(golden[f"{name}/fused"].sample)
    return found


def test_fusion_of_recorded_inputs_is_bit_identical(repository: Path) -> None:
    found = fuse_recorded_inputs(repository)
    assert len(found) == 16
    for name, (ours, recorded) in found.items():
        assert torch.equal(ours, recorded), name


def test_dividing_before_multiplying_is_seen(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It differs in the last bit alone, below any limit on whole layers; the recorded inputs make it visible.
    def forward(self: WeightedFusion, maps: list[Tensor]) -> Tensor:
        weights = [F.relu(weight) for weight in self.edge_weights]
        total = sum(weights[1:], start=weights[0]) + bifpn.FUSION_EPSILON
        return sum(x * (weight / total) for x, weight in zip(maps, weights, strict=True))

    monkeypatch.setattr(WeightedFusion, "forward", forward)
    differing = [
        name for name, (ours, recorded) in fuse_recorded_inputs(repository).items() if not ours.equal(recorded)
    ]
    print(f"dividing first changes {len(differing)} of 16 nodes")
    assert len(differing) >= 8
