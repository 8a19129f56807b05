"""Where saturation hides what rounding costs, the reference's own noise sets the limit, and lets no fault pass."""

from pathlib import Path

import numpy as np
import pytest
from single_precision import plant

from effconv.effdet_torch.model import EfficientDet
from effconv.parity.comparison.compare import compare_in_turn, precisions
from effconv.parity.comparison.rows import Check
from effconv.parity.limits import FLOAT64_LIMIT, REFERENCE_FACTOR
from effconv.parity.traces.images import noise
from effconv.parity.traces.official import OfficialTrace, official_variables
from tiny_models import load_tiny

pytestmark = pytest.mark.tf
FOLDER = Path(__file__).parents[2] / "golden" / "tiny-lite"
FAULTS = ("half as much from all depthwise kernels", "a depthwise convolution off by one pixel")


def run(model: EfficientDet) -> list[Check]:
    """The float32 comparisons from the image on: noise a hundred times too bright, of which relu6 cuts off most."""
    images = (noise(27, (64, 64)) * 100).astype(np.float32)
    trace = OfficialTrace(model.config, official_variables(FOLDER, model.config)[0], images, {})
    rows = compare_in_turn(trace, precisions(model), "accumulated")
    return [row.checks["float32 accumulated"] for row in rows]


def test_faults_are_refused_where_the_reference_s_noise_sets_the_limit() -> None:
    clean = run(load_tiny(FOLDER))
    noises = [check.noise.reference for check in clean if check.noise]
    assert clean[-1].limit == REFERENCE_FACTOR * max(noises) + FLOAT64_LIMIT
    assert all(check.ok for check in clean)
    for fault in FAULTS:
        faulty = load_tiny(FOLDER)
        plant(faulty, fault)
        checks = run(faulty)
        assert [check.limit for check in checks] == [check.limit for check in clean]
        assert max(check.difference.error / check.limit for check in checks) > 1000
