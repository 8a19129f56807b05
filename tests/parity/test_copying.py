"""Copies of a model: equal in what they compute, and apart in everything that can be changed."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from effconv.effdet_torch.model import EfficientDet
from effconv.parity.copying import copied, copied_with_shared_weights
from effconv.parity.mistakes.network import CHANGES
from tiny_models import load_tiny

IMAGES = torch.randn(1, 3, 128, 160, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model(repository: Path) -> EfficientDet:
    return load_tiny(repository / "tests" / "golden" / "tiny-swish")


def outputs(model: EfficientDet) -> list[Tensor]:
    with torch.inference_mode():
        class_logits, box_codes = model(IMAGES.to(next(model.parameters()).dtype))
    return [*class_logits, *box_codes]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(map(torch.equal, one, other))


@pytest.mark.parametrize("make", [copied, copied_with_shared_weights, copy.deepcopy])
def test_a_copy_computes_the_same_under_the_same_names(make: object, model: EfficientDet) -> None:
    other = make(model)
    assert same(outputs(other), outputs(model))
    assert [name for name, _ in other.named_modules()] == [name for name, _ in model.named_modules()]
    assert list(other.state_dict()) == list(model.state_dict())
    assert not {id(each) for each in other.modules()} & {id(each) for each in model.modules()}
    assert not {id(each) for each in other.parameters()} & {id(each) for each in model.parameters()}
    assert all(each.requires_grad for each in other.parameters())


def test_only_the_shared_copy_shares_memory(model: EfficientDet) -> None:
    places = [each.data_ptr() for each in model.state_dict().values()]
    assert [each.data_ptr() for each in copied_with_shared_weights(model).state_dict().values()] == places
    assert not set(places) & {each.data_ptr() for each in copied(model).state_dict().values()}


def test_what_is_done_to_a_copy_leaves_the_model_as_it_is(model: EfficientDet) -> None:
    before = outputs(model)
    copied_with_shared_weights(model).double()
    zeroed, changed = copied(model), copied(model)
    with torch.no_grad():
        for weight in zeroed.state_dict().values():
            weight.zero_()
    for change in CHANGES.values():
        if change.fits(model.config):
            change.apply(changed)
    changed.class_head.levels.reverse()
    changed.register_forward_hook(lambda *_: None)
    assert not model._forward_hooks
    assert same(outputs(model), before)
    assert not same(outputs(changed), before)


def test_a_weight_that_two_modules_share_stays_shared(model: EfficientDet) -> None:
    model.box_head.convs[0].pointwise.weight = model.class_head.convs[0].pointwise.weight
    other = copied(model)
    assert other.box_head.convs[0].pointwise.weight is other.class_head.convs[0].pointwise.weight
    assert len(list(other.parameters())) == len(list(model.parameters()))


@pytest.mark.parametrize("make", [copied, copied_with_shared_weights])
def test_a_copy_is_watched_by_who_watches_the_model(make: object, model: EfficientDet) -> None:
    class Watcher:
        calls = 0

        def watch(self, *_: object) -> None:
            self.calls += 1

    watcher = Watcher()
    model.register_forward_hook(watcher.watch)
    outputs(make(model))
    assert watcher.calls == 1
