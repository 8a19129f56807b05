"""The whole network against every recorded activation of the official code, and shown to fail when it is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import effconv
from effconv.effdet_torch.bifpn import ImageSizeError
from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.model import EfficientDet
from effconv.parity.comparison.rows import Row
from tiny_models import compare_with_golden, load_tiny


def require_all(rows: list[Row], layers: int) -> None:
    worst = max(rows, key=lambda row: row.checks[ERROR].difference.error / row.checks[ERROR].limit)
    check = worst.checks[ERROR]
    print(f"nearest its limit of {len(rows)} layers: {worst.layer.key} {check.difference.error:.2e}, {check.limit:.2e}")
    assert [row for row in rows if not row.ok] == []
    assert len(rows) == layers


ERROR = "float32 accumulated"
LAYERS = {"tiny-swish": 130, "tiny-sum8": 155, "tiny-lite": 130}  # that the official code names
ALL_LAYERS = {"tiny-swish": 294, "tiny-sum8": 337, "tiny-lite": 277}  # and those of graph operations


def test_every_named_layer_of_the_tiny_models(tiny: Path) -> None:
    records = sorted(tiny.glob("activations_*.npz"))
    assert len(records) == (2 if tiny.name == "tiny-sum8" else 1)
    for record in records:
        require_all(compare_with_golden(load_tiny(tiny), record), LAYERS[tiny.name])


@pytest.mark.shared
@pytest.mark.parametrize(
    ("record", "layers"),
    [("efficientdet-d0_512x512", 422), ("efficientdet-d0_384x640", 422), ("efficientdet-lite0_320x320", 398)],
)
def test_every_layer_of_full_size_models(
    record: str, layers: int, shared: Path, full_size: Callable[[str], Path]
) -> None:
    model = record.rsplit("_", 1)[0]
    network = effconv.load(full_size(model), model=model)
    require_all(compare_with_golden(network, shared / "goldens" / f"act_{record}.npz"), layers)


@pytest.mark.shared
@pytest.mark.parametrize("record", ["tiny-swish_128x160", "tiny-sum8_256x256", "tiny-lite_128x128"])
def test_every_layer_of_the_tiny_models(record: str, shared: Path, repository: Path) -> None:
    name = record.rsplit("_", 1)[0]
    folder = repository / "tests" / "golden" / name
    require_all(compare_with_golden(load_tiny(folder), shared / "goldens" / f"act_{record}.npz"), ALL_LAYERS[name])


# --- sizes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(128, 160), (97, 193), (385, 513), (130, 70), (129, 257), (511, 513)])
def test_any_size_gives_one_map_per_level_of_the_right_size(size: tuple[int, int], tiny: Path) -> None:
    model = load_tiny(tiny)
    if model.config.max_level == 8:
        size = (2 * size[0], 2 * size[1])  # one level more halves once more
    with torch.inference_mode():
        class_logits, box_codes = model(torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0)))
    for level, logits, codes in zip(model.config.levels, class_logits, box_codes, strict=True):
        expected = tuple(-(-side // 2**level) for side in size)
        assert logits.shape == (1, 63, *expected)
        assert codes.shape == (1, 36, *expected)
        assert torch.isfinite(logits).all()
        assert torch.isfinite(codes).all()


def test_a_size_the_official_code_refuses_is_refused(tiny: Path) -> None:
    # Its top levels would have to shrink along one axis alone.
    with pytest.raises(ImageSizeError, match="use a larger or squarer one"):
        load_tiny(tiny)(torch.zeros(1, 3, 512, 16))


def test_images_of_another_shape_are_refused(tiny: Path) -> None:
    with pytest.raises(ValueError, match=r"images must be \(B, 3, H, W\), found \(1, 128, 128, 3\)"):
        load_tiny(tiny)(torch.zeros(1, 128, 128, 3))


@pytest.mark.parametrize("model", ["d0", "d7x", "lite3x"])
def test_a_fresh_model_is_ready_for_training(model: str) -> None:
    config = get_config(model)
    with torch.device("meta"):
        network = EfficientDet(config)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_class_prior_of_a_fresh_model(tiny: Path) -> None:
    network = EfficientDet(str(tiny / "config.json"))
    assert network.class_head.predict.pointwise.bias.sigmoid().mean().item() == pytest.approx(0.01, rel=1e-5)
