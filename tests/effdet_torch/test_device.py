"""Where a network runs: a device that is there, and float32 that is not TF32."""

from collections.abc import Iterator

import pytest
import torch

from effconv.effdet_torch.device import require_device
from effconv.errors import EffconvError
from effconv.parity.distributed import Group


@pytest.fixture
def tf32() -> Iterator[None]:
    """As it is by default on a graphics processor, where convolutions may multiply eleven bits."""
    switches = torch.backends.cudnn, torch.backends.cuda.matmul
    kept = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = True
    yield
    for switch, value in zip(switches, kept, strict=True):
        switch.allow_tf32 = value


@pytest.mark.usefixtures("tf32")
def test_tf32_is_switched_off_where_a_network_is_sent() -> None:
    with Group().joined("cpu"):
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("name", ["meta", "nonsense", "cuda:99"])
def test_a_device_that_cannot_be_used_is_refused(name: str) -> None:
    with pytest.raises(EffconvError, match=rf"^device {name}: cannot be used \(.+\); try cpu$") as caught:
        require_device(name)
    assert caught.value.parameters == {"device": "cpu"}
