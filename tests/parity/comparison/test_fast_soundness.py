"""Whether the fast form's float32 is sound, part by part: its own is, another's is not and named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from effconv.effdet_torch.engines.convolution import FixedConv2d, GatedProjection, PointwiseConv2d
from effconv.effdet_torch.engines.fast import FastEfficientDet, fast
from effconv.effdet_torch.engines.fast_ops import Gate, ScaledFusion
from effconv.parity.comparison.fast_soundness import sound_parts
from effconv.parity.comparison.soundness import Soundness
from kept_runs import IMAGES, SWISH
from tiny_models import load_tiny

LITE = Path(__file__).parents[2] / "golden" / "tiny-lite"


def parts(network: FastEfficientDet) -> dict[str, Soundness]:
    return dict(sound_parts(network, torch.from_numpy(IMAGES)))


@pytest.mark.parametrize("folder", [SWISH, LITE], ids=lambda folder: folder.name)
def test_every_part_of_the_fast_form_is_sound(folder: Path) -> None:
    network = fast(load_tiny(folder))
    found = parts(network)
    assert all(sound.ok for sound in found.values())
    assert any(sound.times_bound > 0 for sound in found.values())  # float32 does round
    gates = {name for name, part in network.named_modules() if isinstance(part, Gate)}
    assert gates <= set(found)
    assert bool(gates) == (folder == SWISH)


@pytest.mark.parametrize("kind", [Gate, FixedConv2d, PointwiseConv2d, GatedProjection, ScaledFusion])
def test_a_part_that_is_less_exact_than_float32_is_not_sound(
    kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off by a thousandth in float32 alone: of that kind every part is unsound, and no other."""
    network = fast(load_tiny(SWISH))
    exact = kind.forward

    def inexact(part: nn.Module, *given: Any) -> Tensor:
        found: Tensor = exact(part, *given)
        return found * 1.001 if found.dtype == torch.float32 and type(part) is kind else found

    monkeypatch.setattr(kind, "forward", inexact)
    unsound = {name for name, sound in parts(network).items() if not sound.ok}
    modules = dict(network.named_modules())
    assert unsound
    assert {type(modules[name]) for name in unsound} == {kind}
