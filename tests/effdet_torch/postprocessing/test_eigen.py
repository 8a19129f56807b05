"""exp and sigmoid: TensorFlow's bits where it is installed, values and limits everywhere."""

from pathlib import Path

import numpy as np
import pytest
import torch

from effconv.effdet_torch.postprocessing import eigen
from recorded_detections import RECORDS

LOW, HIGH = -87.33, 88.72  # where float32 exp is a normal number
SPECIAL = (-torch.inf, -200.0, -104.0, -90.0, -87.4, -87.3, -0.0, 0.0, 87.0, 88.7, 88.73, 200.0, torch.inf, torch.nan)


# x: e**x by TensorFlow 2.21; all differ when one polynomial coefficient is off in its sixth digit.
KNOWN = {
    "-0x1.243524p-2": "0x1.80e4a4p-1",
    "-0x1.8da272p+1": "0x1.6ea510p-5",
    "0x1.ff64f4p+2": "0x1.711c34p+11",
    "-0x1.066534p+0": "0x1.6f6a10p-2",
    "0x1.fcd564p-2": "0x1.a4c500p+0",
    "-0x1.ab2f82p+0": "0x1.8208b2p-3",
    "0x1.897692p+1": "0x1.5a072cp+4",
    "0x1.a4dbcep+2": "0x1.66cd20p+9",
}


def ulp_apart(ours: torch.Tensor, exact: np.ndarray) -> int:
    theirs = exact.astype(np.float32).view(np.int32).astype(np.int64)
    return int(np.abs(ours.numpy().view(np.int32) - theirs).max())


def test_accuracy_against_float64() -> None:
    x = torch.linspace(LOW, HIGH, 200_001)
    exact = np.exp(x.double().numpy())
    # Bounds stated in Eigen's own sources are larger; these are what a sweep finds.
    assert ulp_apart(eigen.exp(x), exact) <= 2
    assert ulp_apart(eigen.sigmoid(x), exact / (1 + exact)) <= 4
    assert ulp_apart(eigen.sigmoid_halved(x), exact / (1 + exact)) <= 7


def test_known_bits() -> None:
    x, expected = (
        torch.tensor([float.fromhex(value) for value in column]) for column in zip(*KNOWN.items(), strict=True)
    )
    assert torch.equal(eigen.exp(x), expected)


def test_limits() -> None:
    x = torch.tensor([-torch.inf, -200.0, -87.4, 0.0, 88.73, torch.inf])
    assert eigen.exp(x).tolist() == [0.0, 0.0, 0.0, 1.0, torch.inf, torch.inf]
    for sigmoid in (eigen.sigmoid, eigen.sigmoid_halved):
        assert sigmoid(x).tolist() == [0.0, 0.0, 0.0, 0.5, 1.0, 1.0]
        assert sigmoid(torch.tensor([torch.nan])).isnan().all()
    assert eigen.exp(torch.tensor([torch.nan])).isnan().all()
    assert torch.isfinite(eigen.exp(torch.tensor([88.722])))


@pytest.mark.shared
@pytest.mark.parametrize("name", RECORDS)
def test_recorded_scores_are_the_sigmoid_of_recorded_logits(shared: Path, name: str) -> None:
    with np.load(shared / "goldens" / f"post_{name}.npz", allow_pickle=False) as archive:
        for decoder in ("prenms0", "prenms5000"):
            ours = eigen.sigmoid(torch.from_numpy(archive[f"{decoder}/logit"])).numpy()
            assert np.array_equal(ours, archive[f"{decoder}/scores"])


@pytest.mark.tf
def test_bits_are_tensorflows() -> None:
    import tensorflow as tf

    x = np.random.RandomState(0).standard_normal(1 << 18).astype(np.float32) * 20
    x[: len(SPECIAL)] = SPECIAL
    for ours, theirs in ((eigen.exp, tf.math.exp), (eigen.sigmoid_halved, tf.math.sigmoid)):
        assert np.array_equal(ours(torch.from_numpy(x)).numpy(), theirs(x).numpy(), equal_nan=True)
    power = tf.math.exp(np.minimum(x, np.float32(80)))
    assert np.array_equal(eigen.sigmoid(torch.from_numpy(x)).numpy(), (power / (1 + power)).numpy(), equal_nan=True)
