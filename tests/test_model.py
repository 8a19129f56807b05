"""The whole network against every recorded activation of the official code, and shown to fail when it is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import effconv
from effconv.effdet_torch.bifpn import ImageSizeError
from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.model import EfficientDet
from effconv.parity.compare import Row, compare_with_golden, relative_error
from effconv.parity.golden import Golden
from tiny_models import compare, load_tiny


def require_all(rows: list[Row], layers: int) -> None:
    worst = max(rows, key=lambda row: row.error)
    print(f"worst of {len(rows)} layers: {worst.name} ({worst.module}) {worst.error:.2e}, limit {worst.limit:.0e}")
    assert [row for row in rows if not row.ok] == []
    assert len(rows) == layers


LAYERS = {"tiny-swish": 141, "tiny-sum8": 166, "tiny-lite": 141}


def test_every_layer_of_the_tiny_models(tiny: Path) -> None:
    records = sorted(tiny.glob("activations_*.npz"))
    assert len(records) == (2 if tiny.name == "tiny-sum8" else 1)
    for record in records:
        require_all(compare(load_tiny(tiny), record), LAYERS[tiny.name])


@pytest.mark.shared
@pytest.mark.parametrize("record", ["efficientdet-d0_512x512", "efficientdet-d0_384x640", "efficientdet-lite0_320x320"])
def test_every_layer_of_full_size_models(record: str, shared: Path, full_size: Callable[[str], Path]) -> None:
    model = record.rsplit("_", 1)[0]
    network = effconv.load(full_size(model), model=model)
    require_all(compare(network, shared / "goldens" / f"act_{record}.npz"), 197)


@pytest.mark.shared
@pytest.mark.parametrize("record", ["tiny-swish_128x160", "tiny-sum8_256x256", "tiny-lite_128x128"])
def test_every_layer_of_the_tiny_models_in_the_larger_records(record: str, shared: Path, repository: Path) -> None:
    name = record.rsplit("_", 1)[0]
    folder = repository / "tests" / "golden" / name
    require_all(compare(load_tiny(folder), shared / "goldens" / f"act_{record}.npz"), LAYERS[name])


def test_comparison_fails_on_nan_shape_and_missing_names(tiny: Path) -> None:
    record = sorted(tiny.glob("activations_*.npz"))[0]
    model = load_tiny(tiny)
    with torch.no_grad():
        model.box_head.predict.pointwise.bias[0] = float("nan")
    failed = {row.name: row.fault for row in compare(model, record) if not row.ok}
    assert set(failed) == {f"box_outputs/{level}" for level in model.config.levels}
    assert set(failed.values()) == {"not finite"}

    golden = Golden(record)
    golden.names.remove("backbone/stem")
    golden.names.append("backbone/no_such_layer")
    golden._rows["backbone/no_such_layer"] = 0
    faults = {row.name: row.fault for row in compare_with_golden(load_tiny(tiny), golden, 2e-5) if row.fault}
    assert faults == {
        "backbone/no_such_layer": "recorded, but not computed here",
        "backbone/stem": "computed here, but not recorded",
    }


def test_a_record_without_one_level_shifts_no_other(tiny: Path) -> None:
    golden = Golden(sorted(tiny.glob("activations_*.npz"))[0])
    missing = ["class_outputs/3", "box_outputs/5", "backbone/block_1/expansion_output"]
    for name in missing:
        golden.names.remove(name)
    failed = [row.name for row in compare_with_golden(load_tiny(tiny), golden, 2e-5) if not row.ok]
    assert sorted(failed) == sorted(missing)


def test_relative_error_never_passes_what_is_not_a_number() -> None:
    import numpy as np

    one = np.ones(3)
    assert relative_error(one, one) == 0
    assert relative_error(one * np.nan, one) == float("inf")
    assert relative_error(one, one * np.inf) == float("inf")
    assert relative_error(one, one * 0) == float("inf")
    assert relative_error(one * 1.5, one * 2) == 0.25
    assert not Row("name", "module", (1,), float("nan"), 1.0).ok
    assert Row("name", "module", (1,), 1.0, 1.0).ok


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
