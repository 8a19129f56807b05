"""The fast form of a model beside the model itself: the same function in float64, no more noise in float32."""

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import effconv
from effconv.effdet_torch.engines.convolution import (
    SMALL,
    FirstConv2d,
    FixedConv2d,
    GatedProjection,
    PointwiseConv2d,
    ZeroTapConv2d,
)
from effconv.effdet_torch.engines.fast import FastEfficientDet, FastFormError, fast
from effconv.effdet_torch.model import EfficientDet
from effconv.effdet_torch.ops import BatchNorm
from effconv.effdet_torch.training.synchronised_norm import synchronise_norms
from effconv.parity.mistakes.modules import SoftmaxFusion
from effconv.parity.mistakes.network import CHANGES, changed
from tensors import config_of
from tiny_models import load_tiny

# Even, odd, mixed both ways; large enough for eight levels.
SIZES = [(256, 256), (193, 191), (259, 384), (258, 385)]
SWISH = Path(__file__).parent.parent.parent / "golden" / "tiny-swish"
Outputs = tuple[list[Tensor], list[Tensor]]


def images(size: tuple[int, int], seed: int = 0, batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def run(model: EfficientDet, batch: Tensor) -> Outputs:
    return model(batch)  # type: ignore[no-any-return]


def error(found: Outputs, exact: Outputs) -> float:
    """Largest difference of any level, by the level's largest value."""
    pairs = [pair for lists in zip(found, exact, strict=True) for pair in zip(*lists, strict=True)]
    assert all(a.shape == b.shape for a, b in pairs)
    return max(float((a.double() - b).abs().max() / b.abs().max()) for a, b in pairs)


def require_same_function(model: EfficientDet, size: tuple[int, int]) -> None:
    wide = copy.deepcopy(model).double()
    batch = images(size, batch=2).double()
    assert error(run(fast(wide), batch), run(wide, batch)) < 1e-12


@pytest.mark.parametrize("size", SIZES)
def test_same_function(size: tuple[int, int], tiny: Path) -> None:
    require_same_function(load_tiny(tiny), size)


def test_no_more_noise_than_the_model_itself(tiny: Path) -> None:
    # The noise of one image varies by a factor of two either way; of a dozen it does not.
    model = load_tiny(tiny)
    forms = model, fast(model), copy.deepcopy(model).double()
    plain = quick = 0.0
    for size in SIZES:
        for seed in range(3):
            single, other, exact = (run(form, images(size, seed).to(next(form.parameters()).dtype)) for form in forms)
            plain, quick = plain + error(single, exact), quick + error(other, exact)
            assert other[0][0].dtype == torch.float32
    print(f"float32 noise: model {plain / 12:.1e}, fast form {quick / 12:.1e}")
    assert 0 < quick <= 2 * plain


def randomised(model: EfficientDet) -> EfficientDet:
    """With norms and biases unlike those that training starts from."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, BatchNorm):
            for tensor in (module.running_mean, module.weight.data, module.bias.data):
                tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.2)
            module.running_var.mul_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
        elif isinstance(module, nn.Conv2d) and module.bias is not None:
            module.bias.data.add_(torch.randn(module.bias.shape, generator=generator), alpha=0.2)
    return model.eval()


@pytest.mark.parametrize("changes", [{"residual_heads": True}, {"squeeze_excite": False}, {"activation": "relu6"}])
def test_same_function_of_other_configurations(changes: dict[str, object], tiny: Path) -> None:
    config = dataclasses.replace(config_of(tiny), head_repeats=3, **changes)  # type: ignore[arg-type]
    require_same_function(randomised(EfficientDet(config)), (193, 192))


def test_the_given_model_stays_as_it_was_and_shares_nothing(tiny: Path) -> None:
    model = load_tiny(tiny)
    before = copy.deepcopy(model.state_dict())
    kinds = {name: type(module) for name, module in model.named_modules()}
    quick = fast(model)
    expected = run(quick, images((256, 256)))
    assert {name: type(module) for name, module in model.named_modules()} == kinds
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    for tensor in model.state_dict().values():
        tensor.zero_()
    assert error(run(quick, images((256, 256))), expected) == 0


def test_images_are_left_as_they_are(tiny: Path) -> None:
    batch = images((256, 256)).contiguous(memory_format=torch.channels_last)
    before = batch.clone()
    run(fast(load_tiny(tiny)), batch)
    assert torch.equal(batch, before)


def test_no_norm_is_left_and_no_gradient(tiny: Path) -> None:
    quick = effconv.fast(load_tiny(tiny))
    assert isinstance(quick, FastEfficientDet)
    assert quick.config == config_of(tiny)
    assert not [module for module in quick.modules() if isinstance(module, nn.BatchNorm2d)]
    assert not [parameter for parameter in quick.parameters() if parameter.is_meta or parameter.requires_grad]
    class_logits, box_codes = quick(images((256, 256)).requires_grad_())
    assert not any(level.requires_grad for level in class_logits + box_codes)


def test_large_maps_take_the_float32_way_of_their_own(tiny: Path) -> None:
    # So that the comparison of noise above has something to find.
    sizes = []
    quick = fast(load_tiny(tiny))
    for module in quick.modules():
        if isinstance(module, PointwiseConv2d):
            module.register_forward_hook(lambda _, arguments, __: sizes.append(arguments[0][0, 0].numel()))
    run(quick, images((256, 256)))
    assert min(sizes) < SMALL < max(sizes)


def test_each_convolution_has_the_form_for_its_kernel_and_stride(tiny: Path) -> None:
    """Of the backbone: 1x1 kernels are products of matrices, others pad by zero taps only where the stride is 2.

    The first pads where it copies.
    """
    model = load_tiny(tiny)
    quick = dict(fast(model).named_modules())
    kinds = set()
    for name, module in model.named_modules():
        if name.startswith("backbone.") and isinstance(module, nn.Conv2d) and "squeeze_excite" not in name:
            kind = PointwiseConv2d if module.kernel_size == (1, 1) else FixedConv2d
            kind = ZeroTapConv2d if module.stride != (1, 1) else kind
            kind = GatedProjection if name.endswith(".project") else kind
            kind = FirstConv2d if name.endswith("stem.conv") else kind
            assert type(quick[name]) is kind, name
            kinds.add(kind)
    assert kinds == {FirstConv2d, PointwiseConv2d, FixedConv2d, ZeroTapConv2d, GatedProjection}


def test_training_is_refused(tiny: Path) -> None:
    quick = fast(load_tiny(tiny))
    with pytest.raises(FastFormError, match="train the model it was made from"):
        quick.train()
    assert not any(module.training for module in quick.eval().modules())


def test_a_model_in_training_is_taken_as_in_eval_mode(tiny: Path) -> None:
    model = load_tiny(tiny)
    expected = run(fast(model), images((256, 256)))
    assert error(run(fast(model.train()), images((256, 256))), expected) == 0
    synchronise_norms(model)
    assert error(run(fast(model), images((256, 256))), expected) == 0


def test_a_model_with_exchanged_parts_is_refused(tiny: Path) -> None:
    model = load_tiny(tiny)
    with pytest.raises(FastFormError, match="the model is of type FastEfficientDet"):
        fast(fast(model))
    node = model.bifpn.cells[0].nodes[1]
    kind, node.fuse.__class__ = type(node.fuse).__name__, SoftmaxFusion
    with pytest.raises(FastFormError, match=rf"nodes\.1\.fuse is of type SoftmaxFusion, where .* has {kind}: only"):
        fast(model)
    del node.norm
    node.fuse.__class__ = type(model.bifpn.cells[0].nodes[0].fuse)
    with pytest.raises(FastFormError, match=r"nodes\.1\.norm is missing, where .* has BatchNorm: only"):
        fast(model)


def test_images_of_another_shape_are_refused(tiny: Path) -> None:
    quick = fast(load_tiny(tiny))
    for shape in ((1, 128, 128, 3), (3, 128, 128)):
        with pytest.raises(ValueError, match=r"images must be \(B, 3, H, W\)"):
            quick(torch.zeros(shape))
    with pytest.raises(effconv.EffconvError, match="use a larger or squarer one"):
        quick(torch.zeros(1, 3, 512, 16))


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_model_has_its_own_fast_form_or_none(name: str) -> None:
    """Whatever is done to a model's parts or settings: its fast form does the same, or is refused."""
    plain = load_tiny(SWISH)
    if not CHANGES[name].fits(plain.config):
        pytest.skip(f"tiny-swish has nothing that {name} changes")
    model = changed(plain, CHANGES[name])
    batch = images((128, 128))
    try:
        quick = fast(copy.deepcopy(model).double())
    except FastFormError:
        return
    assert error(run(quick, batch.double()), run(copy.deepcopy(model).double(), batch.double())) < 1e-12
