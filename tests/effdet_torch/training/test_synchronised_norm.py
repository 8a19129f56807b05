"""Batch norm over several processes, which are threads here, beside one batch norm over the whole batch."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from effconv.effdet_torch.ops import BatchNorm
from effconv.effdet_torch.training import synchronised_norm
from effconv.effdet_torch.training.synchronised_norm import synchronise_norms

PROCESSES = 2


@pytest.fixture(autouse=True)
def _threads_for_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    barrier = threading.Barrier(PROCESSES, timeout=60)
    given: dict[int, Tensor] = {}

    def summed(value: Tensor) -> Tensor:
        given[threading.get_ident()] = value
        barrier.wait()
        found = torch.stack(list(given.values())).sum(0)
        barrier.wait()
        return found

    monkeypatch.setattr(synchronised_norm, "count", lambda: PROCESSES)
    monkeypatch.setattr(synchronised_norm, "summed", summed)


def trained(norm: nn.Module, x: Tensor, outer: Tensor) -> tuple[Tensor, ...]:
    """(output, gradient of the input, of the scale, of the shift, running mean, running variance) of a step."""
    x = x.clone().requires_grad_()
    output = norm(x)
    gradients = torch.autograd.grad((output * outer).sum(), [x, norm.weight, norm.bias])
    return output.detach(), *gradients, norm.running_mean, norm.running_var


def test_parts_of_a_batch_train_as_the_whole_does() -> None:
    torch.manual_seed(0)
    whole = BatchNorm(3).double().train()
    nn.init.normal_(whole.weight)
    nn.init.normal_(whole.bias)
    x, outer = torch.randn(2, 4, 3, 5, 6, dtype=torch.float64)
    norms = [copy.deepcopy(whole) for _ in range(PROCESSES)]
    for norm in norms:
        synchronise_norms(norm)
    with ThreadPoolExecutor(PROCESSES) as pool:
        parts = list(pool.map(trained, norms, x.chunk(PROCESSES), outer.chunk(PROCESSES)))
    output, of_input, *of_parameters, mean, variance = trained(whole, x, outer)
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), output)
    torch.testing.assert_close(torch.cat([part[1] for part in parts]), of_input)
    for place, expected in enumerate(of_parameters, 2):
        torch.testing.assert_close(sum(part[place] for part in parts), expected)
    for part in parts:
        torch.testing.assert_close(part[4:], (mean, variance))


def test_at_inference_it_is_a_batch_norm() -> None:
    norm = BatchNorm(3).eval()
    x = torch.randn(2, 3, 4, 4)
    expected = norm(x)
    synchronise_norms(norm)
    assert torch.equal(norm(x), expected)
