"""Each known mistake and each planted fault changes its own model only, and first in the layer it names."""

import copy
import dataclasses
import functools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from effconv.convert.layers import layers
from effconv.effdet_torch.config import Config, get_config
from effconv.effdet_torch.model import EfficientDet
from effconv.parity.mistakes.network import CHANGES, Change, changed, raw_weights
from faults import IMAGE_SIZES, Fault, faults
from tiny_models import load_tiny

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
CONFIGS = {name: get_config(str(GOLDEN / name / "config.json")) for name in ("tiny-swish", "tiny-sum8", "tiny-lite")}
SLOW = {"tiny-sum8": pytest.mark.slow}  # its images are four times as large
FITTING = [
    pytest.param(name, change, marks=SLOW.get(name, ()))
    for name, config in CONFIGS.items()
    for change in CHANGES.values()
    if change.fits(config)
]
PLANTED = [
    pytest.param(name, fault, marks=SLOW.get(name, ())) for name, config in CONFIGS.items() for fault in faults(config)
]
ALGORITHM = 1e-9  # relative to the largest value: less may be rounding, in float64
ROUNDING_ONLY = "fusion-divides-first"


def label(value: object) -> str:
    return value.name if isinstance(value, Change | Fault) else str(value)


@functools.cache
def original(name: str) -> EfficientDet:
    """The right model, in float64."""
    return load_tiny(GOLDEN / name).double()


@functools.cache
def images(config: Config) -> Tensor:
    return torch.randn(1, 3, *IMAGE_SIZES[config.max_level], generator=torch.Generator().manual_seed(0)).double()


@functools.cache
def right(name: str) -> dict[str, Tensor]:
    return activations(original(name))


def outputs(model: EfficientDet) -> list[Tensor]:
    dtype = next(model.parameters()).dtype
    with torch.inference_mode():
        return [level for head in model(images(model.config).to(dtype)) for level in head]


def activations(model: EfficientDet) -> dict[str, Tensor]:
    """{key: activation} of every layer, in the order of computation."""
    found: dict[str, Tensor] = {}
    keys: dict[str, list[str]] = {}  # a module that the levels share has one for each
    for layer in layers(model.config):
        keys.setdefault(layer.module, []).append(layer.key)

    def record(module: nn.Module, inputs: object, output: Tensor, *, waiting: list[str]) -> None:
        found[waiting.pop(0)] = output

    handles = [
        model.get_submodule(path).register_forward_hook(functools.partial(record, waiting=waiting))
        for path, waiting in keys.items()
    ]
    outputs(model)
    for handle in handles:
        handle.remove()
    return found


def first_difference(name: str, model: EfficientDet) -> str | None:
    """The first layer that `model` computes otherwise than the right one, by a single bit, or not at all."""
    found = activations(model)
    return next((key for key, value in right(name).items() if key not in found or not found[key].equal(value)), None)


def distance(ours: list[Tensor], theirs: list[Tensor]) -> float:
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_layer_is_looked_at(name: str) -> None:
    assert list(right(name)) == [layer.key for layer in layers(CONFIGS[name])]
    assert first_difference(name, copy.deepcopy(original(name))) is None


@pytest.mark.parametrize(("name", "change"), FITTING, ids=label)
def test_change_leaves_the_original_and_every_path(name: str, change: Change) -> None:
    model = original(name)
    before = outputs(model)
    other = changed(model, change)
    difference = distance(outputs(other), before)
    print(f"{change.name}: {difference:.2e}")
    assert 0 < difference < ALGORITHM if change.name == ROUNDING_ONLY else difference > ALGORITHM
    assert all(map(torch.equal, outputs(model), before))
    assert [path for path, _ in other.named_modules()] == [path for path, _ in model.named_modules()]
    assert {k: (v.shape, v.dtype) for k, v in other.state_dict().items()} == {
        k: (v.shape, v.dtype) for k, v in model.state_dict().items()
    }


@pytest.mark.parametrize("name", ["tiny-swish", "tiny-lite"])
def test_change_of_two_float32_copies_is_the_same(name: str) -> None:
    model = load_tiny(GOLDEN / name)
    before = outputs(model)
    for change in CHANGES.values():
        if change.fits(model.config):
            first, second = (outputs(changed(model, change)) for _ in range(2))
            assert {tensor.dtype for tensor in first} == {torch.float32}
            assert all(map(torch.equal, first, second)), change.name
            assert not all(map(torch.equal, first, before)), change.name


@pytest.mark.parametrize(("name", "fault"), PLANTED, ids=label)
def test_fault_shows_first_where_it_says(name: str, fault: Fault) -> None:
    model = copy.deepcopy(original(name))
    fault.plant(model)
    assert first_difference(name, model) == fault.layer


@pytest.mark.parametrize("change", ["relu6-activation", "no-squeeze-excite"])
def test_change_equals_a_model_of_that_config(change: str) -> None:
    model = original("tiny-swish")
    field = {"activation": "relu6"} if change == "relu6-activation" else {"squeeze_excite": False}
    other = EfficientDet(dataclasses.replace(model.config, **field)).double().eval()
    other.load_state_dict({key: model.state_dict()[key] for key in other.state_dict()})
    assert all(map(torch.equal, outputs(changed(model, CHANGES[change])), outputs(other)))


def test_batch_statistics_equal_training_mode() -> None:
    model = original("tiny-swish")
    noise = images(model.config)
    batch = torch.cat([noise, noise.flip(3)])
    other = changed(model, CHANGES["batch-statistics"])
    with torch.inference_mode():
        found, expected = other(batch), copy.deepcopy(model).train()(batch)
    assert distance([*found[0], *found[1]], [*expected[0], *expected[1]]) < ALGORITHM
    assert all(map(torch.equal, other.buffers(), model.buffers()))


def test_swapped_channels_equal_swapped_images() -> None:
    model = original("tiny-lite")
    with torch.inference_mode():
        logits, codes = model(images(model.config).flip(1))
    assert distance(outputs(changed(model, CHANGES["swapped-input-channels"])), [*logits, *codes]) < ALGORITHM


# How the right outputs are read: anchors are scales x aspects; the last axis is classes or codes.
READ = {
    "class-major-outputs": (lambda x: x.flatten(1, 2).transpose(1, 2), lambda x: x),
    "aspect-major-anchors": (lambda x: x.transpose(1, 2), lambda x: x.transpose(1, 2)),
    "xyxy-box-codes": (lambda x: x, lambda x: x[:, :, :, [1, 0, 3, 2]]),
}


@pytest.mark.parametrize("change", READ)
def test_changed_order_is_the_right_outputs_in_that_order(change: str) -> None:
    model = original("tiny-lite")
    found, expected = outputs(changed(model, CHANGES[change])), outputs(model)
    for index, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        read = READ[change][index >= len(model.config.levels)]
        anchors = theirs.unflatten(1, (model.config.num_scales, len(model.config.aspect_ratios), -1))
        assert distance([ours], [read(anchors).reshape(ours.shape)]) < ALGORITHM


def test_faults_are_many_and_named_once() -> None:
    counts = {name: len(faults(config)) for name, config in CONFIGS.items()}
    print(counts)
    for config in CONFIGS.values():
        names = [fault.name for fault in faults(config)]
        assert len(set(names)) == len(names)
        assert {fault.explained_as for fault in faults(config)} - {None} == {
            change.name for change in CHANGES.values() if change.fits(config)
        }
    assert all(count >= 60 for count in counts.values())


def test_changes_fit_where_the_model_has_what_they_change() -> None:
    misfits = {name: set(CHANGES) - {c.name for c in CHANGES.values() if c.fits(CONFIGS[name])} for name in CONFIGS}
    fusion = {"no-fusion-relu", "no-fusion-epsilon", "fusion-divides-first", "softmax-fusion"}
    gates = {"no-squeeze-excite", "no-squeeze-excite-bias", "squeeze-excite-relu"}
    assert misfits == {
        "tiny-swish": {"swish-activation"},
        "tiny-sum8": {"swish-activation"} | fusion,
        "tiny-lite": {"relu6-activation"} | fusion | gates,
    }


@pytest.mark.parametrize("variant", ["d0", "d7x", "lite0"])
def test_changes_show_in_a_layer_of_the_official_models(variant: str) -> None:
    config = get_config(variant)
    keys = {layer.key for layer in layers(config)}
    assert {change.shows(config) for change in CHANGES.values() if change.fits(config)} <= keys


def test_changes_add_up() -> None:
    """Of two changes to one class of module, the later does not undo the earlier."""
    model = original("tiny-swish")
    pool, upsampling, statistics, epsilon = (
        CHANGES[name] for name in ("no-same-maxpool", "bilinear-upsampling", "batch-statistics", "batch-norm-epsilon")
    )
    both = changed(changed(model, pool), upsampling)
    reverse = changed(changed(model, upsampling), pool)
    one, other = changed(model, pool), changed(model, upsampling)
    assert all(map(torch.equal, outputs(both), outputs(reverse)))
    assert distance(outputs(both), outputs(one)) > ALGORITHM
    assert distance(outputs(both), outputs(other)) > ALGORITHM
    assert distance(outputs(changed(changed(model, statistics), epsilon)), outputs(changed(model, statistics))) > 0


def test_no_fusion_relu_shows_at_the_first_negative_weight() -> None:
    """Where no edge weight is negative, the change is none."""
    model = copy.deepcopy(original("tiny-swish"))
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if "edge_weights" in key:
                value.abs_()
    assert all(map(torch.equal, outputs(changed(model, CHANGES["no-fusion-relu"])), outputs(model)))


@pytest.mark.parametrize("name", CONFIGS)
def test_raw_weights_differ_from_the_first_layer(name: str) -> None:
    raw = load_tiny(GOLDEN / name, weights="raw")
    change = raw_weights(raw.state_dict())
    other = changed(original(name), change)
    assert first_difference(name, other) == change.shows(CONFIGS[name]) == "backbone.stem.conv"
    assert all(map(torch.equal, outputs(other), outputs(raw.double())))
