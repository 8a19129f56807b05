"""Replayed forward passes: the bits of the first, as long as nothing has changed and nobody watches."""

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from effconv.effdet_torch.engines import fast as fast_form
from effconv.effdet_torch.engines.convolution import HAS_ONEDNN, FoldedConv2d
from effconv.effdet_torch.engines.fast import FastEfficientDet, fast
from effconv.effdet_torch.engines.replay import SIZES, ReplayError, Replays, _Recorder, recorded
from effconv.effdet_torch.model import EfficientDet
from tiny_models import load_tiny

pytestmark = pytest.mark.skipif(not HAS_ONEDNN, reason="this PyTorch has no oneDNN: nothing is replayed")


def images(size: tuple[int, int] = (256, 256), seed: int = 0, batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


def flat(outputs: tuple[list[Tensor], list[Tensor]]) -> list[Tensor]:
    return [level for part in outputs for level in part]


def equal(one: tuple[list[Tensor], list[Tensor]], other: tuple[list[Tensor], list[Tensor]]) -> bool:
    return all(torch.equal(a, b) and a.stride() == b.stride() for a, b in zip(flat(one), flat(other), strict=True))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the images that went through the modules."""
    shapes = []
    forward = EfficientDet.forward

    def counted(self: EfficientDet, given: Tensor) -> object:
        shapes.append(tuple(given.shape))
        return forward(self, given)

    monkeypatch.setattr(EfficientDet, "forward", counted)
    return shapes


@pytest.mark.parametrize("size", [(256, 256), (193, 191)])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_bits_of_the_modules(size: tuple[int, int], batch: int, tiny: Path, passes: list[object]) -> None:
    quick, fresh = fast(load_tiny(tiny)), fast(load_tiny(tiny))
    for seed in range(4):
        given = images(size, seed, batch)
        found = quick(given)
        fresh._replays.known.clear()  # so that this one goes through its modules
        assert equal(found, fresh(given))
    assert len(passes) == 2 + 4


def test_images_may_lie_in_another_order_than_those_written_down(tiny: Path) -> None:
    quick, fresh = fast(load_tiny(tiny)), fast(load_tiny(tiny))
    for seed in range(2):
        quick(images(seed=seed))
    given = images(seed=2)
    every_other = torch.stack([given, given], dim=-1)[..., 0]
    expected = fresh(given)
    for other in (given, given.contiguous(memory_format=torch.channels_last), every_other):
        assert equal(quick(other), expected)


def test_what_is_no_longer_needed_is_let_go() -> None:
    """Of ten maps one after the other, no more than two are there at a time."""

    def forward(given: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        for _ in range(10):
            given = given + 1
        return [given], []

    run, _ = recorded(forward, images(), list)
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    class Counted(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal most
            result = function(*args, **(kwargs or {}))
            alive.append(weakref.ref(result))
            most = max(most, sum(each() is not None for each in alive))
            return result

    given = images()
    with Counted():
        run(given)
    assert len(alive) == 10
    assert most == 2


def test_what_a_pass_gave_is_left_alone_by_the_next(tiny: Path) -> None:
    quick = fast(load_tiny(tiny))
    for seed in range(2):
        quick(images(seed=seed))
    first = quick(images(seed=2))
    before = copy.deepcopy(first)
    given = images(seed=3)
    kept = given.clone()
    quick(given)
    assert equal(first, before)
    assert torch.equal(given, kept)


def test_each_size_is_written_down_once_and_few_are_kept(tiny: Path, passes: list[object]) -> None:
    quick = fast(load_tiny(tiny))
    sizes = [(256 + 16 * step, 256) for step in range(SIZES + 1)]
    for _ in range(3):
        for size in sizes[:SIZES]:
            quick(images(size))
    assert len(passes) == 2 * SIZES
    quick(images(sizes[-1]))
    assert len(quick._replays.known) == SIZES
    quick(images(sizes[0]))
    assert len(passes) == 2 * SIZES + 2  # the oldest made room


def shifted(quick: FastEfficientDet) -> None:
    with torch.no_grad():
        for weight in quick.parameters():
            weight.mul_(1.25)


def loaded(quick: FastEfficientDet) -> None:
    quick.load_state_dict({name: tensor * 1.25 for name, tensor in quick.state_dict().items()})


def assigned(quick: FastEfficientDet) -> None:
    quick.load_state_dict({name: tensor * 1.25 for name, tensor in quick.state_dict().items()}, assign=True)


def moved(quick: FastEfficientDet) -> None:
    quick.double()
    shifted(quick)
    quick.float()


def exchanged(quick: FastEfficientDet) -> None:
    other = copy.deepcopy(quick.class_head)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.25)
    quick.class_head = other


def assigned_in_a_part(quick: FastEfficientDet) -> None:
    part = quick.class_head
    part.load_state_dict({name: tensor * 1.25 for name, tensor in part.state_dict().items()}, assign=True)


def patched(quick: FastEfficientDet) -> None:
    head = quick.class_head
    forward = head.forward
    head.forward = lambda *given: [level * 2 for level in forward(*given)]  # type: ignore[method-assign]


CHANGES = [shifted, loaded, assigned, moved, exchanged, assigned_in_a_part, patched]


@pytest.mark.parametrize("change", CHANGES)
def test_other_weights_are_seen(change: Callable[[FastEfficientDet], None], tiny: Path) -> None:
    quick = fast(load_tiny(tiny))
    for seed in range(3):
        before = quick(images(seed=seed))
    change(quick)
    found = [quick(images(seed=2)) for _ in range(3)]
    fresh = fast(load_tiny(tiny))
    change(fresh)
    expected = fresh(images(seed=2))
    assert not equal(expected, before)
    assert all(equal(each, expected) for each in found)


def test_a_hook_sees_every_pass(tiny: Path) -> None:
    quick = fast(load_tiny(tiny))
    for seed in range(3):
        quick(images(seed=seed))
    seen: list[int] = []
    handle = quick.backbone.stem.register_forward_hook(lambda *_: seen.append(1))
    for _ in range(3):
        quick(images())
    assert len(seen) == 3
    handle.remove()
    quick(images())
    assert len(seen) == 3


def test_nothing_is_kept_of_other_number_types(tiny: Path) -> None:
    quick, plain = fast(load_tiny(tiny)), fast(load_tiny(tiny))(images())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = [quick(images()) for _ in range(3)]
    assert not equal(rounded[-1], plain)
    assert equal(quick(images()), plain)


def test_copies_are_their_own(tiny: Path) -> None:
    quick = fast(load_tiny(tiny))
    expected = [quick(images()) for _ in range(3)][-1]
    for other in (copy.deepcopy(quick), pickle.loads(pickle.dumps(quick))):  # noqa: S301
        assert all(equal(other(images()), expected) for _ in range(3))
        shifted(other)
        assert not equal(other(images()), expected)
    assert equal(quick(images()), expected)


def test_weights_handed_in_for_one_call(tiny: Path) -> None:
    quick = fast(load_tiny(tiny))
    expected = [quick(images()) for _ in range(3)][-1]
    zeros = {name: torch.zeros_like(weight) for name, weight in quick.named_parameters()}
    assert not any(level.any() for level in flat(torch.func.functional_call(quick, zeros, (images(),))))
    assert all(equal(quick(images()), expected) for _ in range(3))


def test_it_is_freed_with_its_last_name(tiny: Path) -> None:
    quick = fast(load_tiny(tiny))
    for _ in range(3):
        quick(images())
    packed = next(part for part in quick.modules() if isinstance(part, FoldedConv2d) and part.derived()).derived()[0]
    gone = [weakref.ref(each) for each in (quick, next(quick.parameters()), packed, *quick._replays.known.values())]
    assert len(gone) == 4
    gc.disable()
    try:
        del quick, packed
        assert [each() for each in gone] == [None] * 4, "something refers to it in a circle"
    finally:
        gc.enable()


def test_many_threads(tiny: Path) -> None:
    quick = fast(load_tiny(tiny))
    expected = [fast(load_tiny(tiny))(images(seed=seed)) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: quick(images(seed=seed % 4)), range(24)))
    assert all(equal(each, expected[number % 4]) for number, each in enumerate(found))


def test_a_tensor_from_elsewhere_is_refused() -> None:
    elsewhere, known = torch.ones(1), torch.ones(1)

    def forward(given: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        return [given + known], [given * elsewhere]

    with pytest.raises(ReplayError, match=r"shape \(1,\) is neither computed nor a constant"):
        recorded(forward, images(), lambda: [known])
    replays = Replays()
    for value in (1.0, 2.0, 3.0):
        elsewhere.fill_(value)
        assert torch.equal(replays(images(), forward, lambda: [known])[1][0], images() * value)


def test_what_no_line_can_be_written_of_is_refused() -> None:
    recorder = _Recorder(images())
    with pytest.raises(ReplayError, match="gives a NoneType"):
        recorder.__torch_dispatch__(lambda: (torch.ones(1), None), ())
    with pytest.raises(ReplayError, match="no line of Python can name"):
        recorder.__torch_dispatch__(lambda **_: torch.ones(1), (), (), {"from": 0})


def test_what_depends_on_more_than_the_size_is_refused() -> None:
    calls = []

    def forward(given: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        calls.append(1)
        return [given + torch.rand(given.shape)], []

    with pytest.raises(ReplayError, match="something else"):
        recorded(forward, images(), list)
    replays = Replays()
    for _ in range(3):
        replays(images(), forward, list)
    assert len(calls) == 1 + 1 + 2 + 1  # the second is begun for writing, and then done as it is


def test_a_pass_that_fails_leaves_nothing(tiny: Path) -> None:
    quick = fast(load_tiny(tiny))
    for _ in range(3):
        with pytest.raises(ValueError, match="images"):
            quick(torch.zeros(1, 4, 256, 256))
    assert not quick._replays.known
    assert isinstance(quick, nn.Module)
    assert fast_form.Replays is Replays
