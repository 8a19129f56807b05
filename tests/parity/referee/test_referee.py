"""A network that effconv has never seen, right and with mistakes, beside the official one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from strange_port import StrangePort, with_weights_of
from torch import Tensor, nn

import effconv
from effconv.convert.layers import layers
from effconv.effdet_torch.model import EfficientDet
from effconv.parity.comparison.tried import excluded_line
from effconv.parity.mistakes.network import CHANGES
from effconv.parity.referee.explain_module import explain_module
from effconv.parity.referee.pairing import distinct
from effconv.parity.referee.referee import Shown, comparison_of, with_outputs
from effconv.parity.referee.reference_run import in_float64, reference_run
from effconv.parity.referee.taps import ModuleError
from tiny_models import load_tiny

SWISH = Path(__file__).parent.parent.parent / "golden" / "tiny-swish"


class ThreeMistakes(StrangePort):
    eps = 1e-5
    pool_padding = 0.0
    align_corners = False


@pytest.fixture(scope="module")
def model() -> EfficientDet:
    return load_tiny(SWISH)


def test_a_right_port_holds(model: EfficientDet) -> None:
    found = effconv.compare(with_weights_of(model), model)
    assert found.ok, found.verdict
    assert found.first_fault is None
    assert list(found.explanations) == []
    assert all(set(row.checks) == {"float64 local", "float64 accumulated", "float32 accumulated"} for row in found.rows)


def test_every_layer_that_is_a_module_of_theirs_is_paired_and_none_wrongly(model: EfficientDet) -> None:
    found = effconv.compare(with_weights_of(model), model, explain=False)
    paired = {tap.layer.key for tap in found.taps}
    # A stranger's activations, fusions, resampling and means are functions, which have no module.
    functions = ("squeeze_excite", "squeeze_excite.mean", "fuse", "activation")
    modules = {
        layer.key
        for layer in distinct(reference_run(in_float64(model), torch.zeros(1, 3, 128, 160)))
        if not layer.key.endswith(functions)
        and not (".resamples." in layer.key and layer.key[-1].isdigit())
        and layer.module not in ("bifpn.extra_levels.6", "bifpn.extra_levels.7")
    }
    assert modules <= paired
    assert len(layers(model.config)) > len(modules) > 150
    for row in found.rows:
        assert row.checks["float64 local"].difference.error < 1e-12, row.layer.key
    assert all(tap.evidence.startswith(("its weight is ours", "its values are ours")) for tap in found.taps)


def test_three_mistakes_are_named(model: EfficientDet, tmp_path: Path) -> None:
    found = effconv.compare(with_weights_of(model, ThreeMistakes), model)
    assert not found.ok
    assert found.first_fault == "backbone.stem.norm"
    named = {each.change for each in found.explanations}
    assert named == {"batch-norm-epsilon", "zero-padded-maxpool", "bilinear-upsampling"}
    assert found.explanations[-1].explains
    assert {each.change for each in found.typed_record.tried} == set(CHANGES)
    effects = {each.change: each.effect for each in found.typed_record.tried if each.change in named}
    assert sorted(effects.values()) == ["explains", "explains", "in part"]  # two of them are found together
    assert "zero-padded-maxpool" in str(found)
    found.report(tmp_path / "page.html")
    found.report(tmp_path / "record.json")
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["first_failure"] == "backbone.stem.norm"
    assert {each["layer"] for each in record["pairing"]} == {row["layer"] for row in record["rows"]}


@pytest.mark.parametrize(
    ("attribute", "value", "change"),
    [
        ("eps", 1e-5, "batch-norm-epsilon"),
        ("pool_padding", 0.0, "zero-padded-maxpool"),
        ("align_corners", False, "bilinear-upsampling"),
    ],
)
def test_one_mistake_explains_everything(model: EfficientDet, attribute: str, value: float, change: str) -> None:
    kind = type("Mistaken", (StrangePort,), {attribute: value})
    (explanation,) = effconv.compare(with_weights_of(model, kind), model).explanations
    assert (explanation.change, explanation.explains) == (change, True)


def test_cells_without_any_bias_are_named(model: EfficientDet) -> None:
    """What bonlime/pytorch-tools computes with tensors copied as they are: projections up to P6 keep their bias."""
    port = with_weights_of(model, type("OtherEpsilon", (StrangePort,), {"eps": 1e-5}))
    for conv in port.pyramid.modules():
        if isinstance(conv, nn.Conv2d) and conv.bias is not None:
            nn.init.zeros_(conv.bias)
    found = effconv.compare(port, model)
    named = {each.change for each in found.explanations}
    assert named == {"batch-norm-epsilon", "no-cell-projection-bias", "no-fusion-bias"}
    assert found.explanations[-1].explains


def test_weights_that_are_not_the_references(model: EfficientDet) -> None:
    """Loaded wrongly: one kernel transposed, which nobody's mistake explains."""
    port = with_weights_of(model)
    kernel = port.answers[1]["mix"][0][0].weight  # type: ignore[index]
    kernel.data = kernel.data.transpose(2, 3).contiguous()
    names = {"box_head.convs.0.depthwise": "answers.1.mix.0.0"}
    found = effconv.compare(port, model, names=names)
    assert found.first_fault == "box_head.convs.0.depthwise[3]"
    assert list(found.explanations) == []
    # Without being told, that layer is a part of the next that is known.
    assert effconv.compare(port, model, explain=False).first_fault == "box_head.convs.0.pointwise[3]"


class Float32Zeros(StrangePort):
    """Right in float64, and nothing in float32: what only the float32 run can show."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return super().forward(images if images.dtype == torch.float64 else images * 0)


def test_float32_kernels_that_return_zero_do_not_hold(model: EfficientDet) -> None:
    found = effconv.compare(with_weights_of(model, Float32Zeros), model, explain=False)
    assert not found.ok
    assert "float32 accumulated" in found.verdict


class Float32Rounded(StrangePort):
    """Right in float64; in float32 the images are rounded to half precision."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return super().forward(images if images.dtype == torch.float64 else images.half().float())


class Float32NoNumbers(StrangePort):
    """Right in float64; in float32 nothing is a number, so that nothing can be compared."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return super().forward(images if images.dtype == torch.float64 else images * float("nan"))


@pytest.mark.parametrize("kind", [Float32Rounded, Float32NoNumbers])
def test_what_fails_in_float32_alone_is_said_to_be_no_known_mistake(
    model: EfficientDet, kind: type[StrangePort]
) -> None:
    found = effconv.compare(with_weights_of(model, kind), model)
    assert found.first_fault
    assert not found.explanations
    tried = found.typed_record.tried
    assert [each.change for each in tried] == list(CHANGES)
    assert {(each.effect, each.side) for each in tried} == {("not tried", None)}
    assert excluded_line(found.typed_record) == (
        "not explained: in float64 no layer differs, so the cause is in float32 alone (precision or a kernel), no "
        f"known mistake; {len(CHANGES)} were not tried."
    )


def test_an_output_that_is_not_found_is_no_known_mistake(model: EfficientDet) -> None:
    run = reference_run(in_float64(model), torch.zeros(1, 3, 128, 160))
    rows = with_outputs([], run)
    found = explain_module(in_float64(model), model, run.images, rows, [], None)
    record = comparison_of(run, rows, [], found, model.config, Shown("theirs", "none", "none")).typed_record
    assert excluded_line(record).startswith("not explained: every layer that was found holds, and no known mistake")


def test_images_of_ones_own_and_a_checkpoint(model: EfficientDet) -> None:
    images = np.random.default_rng(0).standard_normal((2, 3, 128, 128)).astype(np.float32)
    found = effconv.compare(with_weights_of(model), SWISH, model=str(SWISH / "config.json"), images=images)
    assert found.ok
    assert found.record["images"] == {"label": "2 of your own", "shape": [2, 3, 128, 128]}


def test_what_cannot_be_compared_is_said(model: EfficientDet) -> None:
    with pytest.raises(ModuleError, match="no layer of tiny-swish is found in it"):
        effconv.compare(nn.Conv2d(3, 4, 1), model)
    with pytest.raises(ModuleError, match=r"names: no layer of tiny-swish is called nowhere"):
        effconv.compare(with_weights_of(model), model, names={"nowhere": "entry"})
    with pytest.raises(ModuleError, match=r"StrangePort has no module exit \(for backbone.stem.conv\)"):
        effconv.compare(with_weights_of(model), model, names={"backbone.stem.conv": "exit"})
    with pytest.raises(effconv.EffconvError, match=r"expected \(B, 3, H, W\), found \(3, 64, 96\)"):
        effconv.compare(with_weights_of(model), model, images=torch.zeros(3, 64, 96))

    class Broken(StrangePort):
        def forward(self, images: Tensor) -> list[Tensor]:
            raise RuntimeError("out of ideas")

    with pytest.raises(ModuleError, match=r"Broken on images of 1x3x128x160 stopped: RuntimeError out of ideas"):
        effconv.compare(with_weights_of(model, Broken), model)
