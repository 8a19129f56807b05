"""`effconv.fast`: the same function as the model, in float64 to its last digits and in float32 within its noise."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import effconv
from effconv.effdet_torch.fast import FastEfficientDet, fast
from effconv.effdet_torch.model import EfficientDet
from effconv.errors import EffconvError
from effconv.parity.limits import float32_limit
from small_images import write_pictures
from tiny_models import load_tiny

GOLDEN = Path(__file__).parent / "golden"
SIZES = {
    "tiny-swish": [(128, 160), (97, 131), (130, 99), (64, 64)],
    "tiny-sum8": [(256, 256), (257, 255)],
    "tiny-lite": [(128, 128), (97, 130)],
}
CASES = [(name, size) for name, sizes in SIZES.items() for size in sizes]
# Both are the same function, of some hundred layers: what remains is the order of summation, a few 1e-15.
FLOAT64_LIMIT = 1e-12


def run(model: torch.nn.Module, images: Tensor) -> list[Tensor]:
    with torch.inference_mode():
        return [level.double() for kind in model(images) for level in kind]


def error(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest relative difference of an output of any level."""
    assert [each.shape for each in ours] == [each.shape for each in theirs]
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in zip(ours, theirs, strict=True))


def noise(size: tuple[int, int], batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "size"), CASES, ids=str)
def test_the_same_function(name: str, size: tuple[int, int]) -> None:
    model, exact = load_tiny(GOLDEN / name), load_tiny(GOLDEN / name).double()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = noise(size)
    expected, truth = run(model, images), run(exact, images.double())
    assert error(run(fast(exact), images.double()), truth) < FLOAT64_LIMIT
    found = run(fast(model), images)
    # The two float32 runs cannot be farther apart than rounding in both.
    assert error(found, expected) <= float32_limit(error(found, truth), error(expected, truth))
    assert error(found, truth) <= 2 * error(expected, truth)  # and it does not round worse than the model
    assert {key: value.tolist() for key, value in model.state_dict().items()} == {
        key: value.tolist() for key, value in before.items()
    }


def test_residual_heads() -> None:
    import dataclasses

    config = dataclasses.replace(load_tiny(GOLDEN / "tiny-swish").config, residual_heads=True)
    torch.manual_seed(3)
    model = EfficientDet(config).double().eval()
    assert error(run(fast(model), noise((64, 64)).double()), run(model, noise((64, 64)).double())) < FLOAT64_LIMIT


def test_its_outputs_do_not_depend_on_the_memory_format() -> None:
    model, images = fast(load_tiny(GOLDEN / "tiny-swish")), noise((64, 64))
    other = images.contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(one, two) for one, two in zip(run(model, images), run(model, other), strict=True))


def test_the_input_stays_as_it_is() -> None:
    images = noise((64, 64)).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    run(fast(load_tiny(GOLDEN / "tiny-lite")), images)
    assert torch.equal(images, before)


def test_what_it_refuses() -> None:
    model = load_tiny(GOLDEN / "tiny-swish")
    with pytest.raises(EffconvError, match="in training mode"):
        fast(model.train())
    quick = fast(model.eval())
    with pytest.raises(EffconvError, match="cannot be trained"):
        quick.train()
    assert not quick.training
    assert not any(parameter.requires_grad for parameter in quick.parameters())
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        quick(torch.zeros(3, 64, 64))


def test_predict(tmp_path: Path) -> None:
    model = load_tiny(GOLDEN / "tiny-swish")
    pictures = sorted((write_pictures(tmp_path) / "val2017").iterdir())[:2]
    quick = effconv.fast(model)
    assert isinstance(quick, FastEfficientDet)
    for ours, theirs in zip(quick.predict(pictures), model.predict(pictures), strict=True):
        assert len(ours.scores) == len(theirs.scores)
        assert torch.allclose(ours.scores[:10], theirs.scores[:10], atol=1e-4)


def test_importing_effconv_does_not_import_torch() -> None:
    code = "import sys, effconv; effconv.EffconvError; print('torch' in sys.modules); effconv.fast"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
