"""Every known mistake of porting the network fails against what the official code recorded, without TensorFlow."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from effconv.effdet_torch.architecture import cell_nodes
from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.model import EfficientDet
from effconv.parity.comparison.rows import first_failure
from effconv.parity.mistakes.network import CHANGES, changed
from effconv.parity.traces.golden import Golden
from tiny_models import compare_with_golden, load_tiny

GOLDEN = Path(__file__).parent / "golden"
# What a record of float32 samples cannot show: a last bit, and what differs on odd feature sizes alone.
BELOW_NOISE = {
    "tiny-swish": {"fusion-divides-first", "half-pixel-upsampling"},
    "tiny-sum8": {"half-pixel-upsampling"},
    "tiny-lite": {"half-pixel-upsampling"},
}
PLANTED = [
    (change.name, name)
    for name in BELOW_NOISE
    for change in CHANGES.values()
    if change.fits(get_config(str(GOLDEN / name / "config.json"))) and change.name not in BELOW_NOISE[name]
]


@pytest.mark.parametrize(("mistake", "name"), PLANTED)
def test_planted_mistake_fails_the_comparison(mistake: str, name: str) -> None:
    record = sorted((GOLDEN / name).glob("activations_*.npz"))[0]
    rows = compare_with_golden(changed(load_tiny(GOLDEN / name), CHANGES[mistake]), record)
    first = first_failure(rows)
    print(f"{mistake}: {sum(not row.ok for row in rows)} of {len(rows)} layers differ, first {first}")
    assert first


def test_raw_weights_fail_the_comparison(tiny: Path) -> None:
    rows = compare_with_golden(load_tiny(tiny, weights="raw"), sorted(tiny.glob("activations_*.npz"))[0])
    assert sum(row.ok for row in rows) == 0


def fuse_recorded_inputs(model: EfficientDet, repository: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """{node: (what our fusion makes of the recorded inputs, what was recorded)}, on the recorded samples.

    Fusion is elementwise, and inputs and output of a node are sampled at the same places.
    """
    folder = repository / "tests" / "golden" / "tiny-swish"
    golden = Golden(folder / "activations_128x160.npz")
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
    found = fuse_recorded_inputs(load_tiny(repository / "tests" / "golden" / "tiny-swish"), repository)
    assert len(found) == 16
    for name, (ours, recorded) in found.items():
        assert torch.equal(ours, recorded), name


def test_dividing_before_multiplying_is_seen(repository: Path) -> None:
    # It differs in the last bit alone, below any limit on whole layers; the recorded inputs make it visible.
    model = changed(load_tiny(GOLDEN / "tiny-swish"), CHANGES["fusion-divides-first"])
    differing = [
        name for name, (ours, recorded) in fuse_recorded_inputs(model, repository).items() if not ours.equal(recorded)
    ]
    print(f"dividing first changes {len(differing)} of 16 nodes")
    assert len(differing) >= 8
