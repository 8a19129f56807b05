"""Every tensor of a candidate beside the checkpoint's, by name: what no layer on this input can see is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from effconv.convert.conversion import convert, write_weights
from effconv.convert.sources import open_checkpoint
from effconv.parity.comparison.layerwise import compare_layerwise
from effconv.parity.comparison.records import ComparisonRecord
from effconv.parity.comparison.subject import Choice
from effconv.parity.comparison.weights_by_name import compare_by_name
from effconv.parity.reference.reading import BY_TENSORFLOW, NOT_COVERED
from effconv.parity.traces.candidate_trace import CandidateTrace
from effconv.parity.traces.images import noise
from effconv.parity.traces.official import official_variables
from effconv.parity.traces.recording import record
from tensors import config_of
from tiny_models import load_tiny

TINY = Path(__file__).parents[2] / "golden" / "tiny-swish"
HIGHEST = "bifpn.cells.0.nodes.7.conv.depthwise"  # of level 7: one pixel, for images of 64x64
OFFICIAL = "fpn_cells/cell_0/fnode7/op_after_combine12/conv/depthwise_kernel"
STEM = "backbone.stem.conv.weight"
EXPECTED = "expected float32 [3, 3, 3, 8]"


def planted(folder: Path, edit: Callable[[dict[str, np.ndarray]], None]) -> Path:
    config = config_of(TINY)
    write_weights(convert(open_checkpoint(TINY), config), folder / "candidate.safetensors")
    state = {key: array.copy() for key, array in load_file(folder / "candidate.safetensors").items()}
    edit(state)
    save_file(state, folder / "candidate.safetensors")
    return folder / "candidate.safetensors"


def compared(**choice: Any) -> ComparisonRecord:
    given = {"model": str(TINY / "config.json"), "checkpoint": TINY, **choice}
    return compare_layerwise(Choice(**given), Path, "effconv parity", explaining=False, backward=False)


def unreached_taps(state: dict[str, np.ndarray]) -> None:
    centre = state[f"{HIGHEST}.weight"][:, :, 1, 1].copy()
    state[f"{HIGHEST}.weight"] = np.random.RandomState(0).standard_normal((16, 1, 3, 3)).astype(np.float32)
    state[f"{HIGHEST}.weight"][:, :, 1, 1] = centre


def colours_swapped(state: dict[str, np.ndarray]) -> None:
    state[STEM] = np.ascontiguousarray(state[STEM][:, [2, 1, 0]])


@pytest.mark.tf
def test_random_values_in_taps_no_input_reaches_are_refused(tmp_path: Path) -> None:
    candidate = planted(tmp_path, unreached_taps)
    found = compared(candidate=candidate, size=(64, 64))
    assert (found.ok, found.first_failure) == (False, None)
    weights = found.tensors
    assert weights
    (differ,) = weights.differ
    assert (differ.tensor, differ.official) == (f"{HIGHEST}.weight", OFFICIAL)
    assert (differ.differ, differ.values, weights.read_by) == (128, 144, BY_TENSORFLOW)
    assert found.verdict == (
        f"all 331 layers hold on this input, but 1 of {weights.compared} tensors differs from the "
        f"checkpoint: {HIGHEST}.weight ({OFFICIAL}), 128 of 144 values"
    )
    assert HIGHEST in {each.module for each in found.unexercised}
    # The candidate is known by its own file, the checkpoint by its fingerprint under the reference.
    assert found.candidate.checkpoint_fingerprint is None
    assert found.candidate.weights == candidate.name
    assert len(found.candidate.sha256 or "") == 64
    assert found.reference.more["checkpoint_fingerprint"] == open_checkpoint(TINY).fingerprint()


@pytest.mark.tf
def test_the_checkpoints_own_weights_are_said_to_be() -> None:
    found = compared(size=(64, 64))
    weights = found.tensors
    assert weights
    assert found.ok
    assert found.verdict.endswith(f"all 331 layers hold, all {weights.compared} tensors are the checkpoint's")
    assert found.candidate.checkpoint_fingerprint == found.reference.more["checkpoint_fingerprint"]


def test_colours_swapped_hold_on_a_grey_picture_and_are_refused_by_name(tmp_path: Path) -> None:
    """On a picture whose channels are equal, as normalised, a swap of the stem's channels moves rounding alone."""
    images = noise(0, (64, 64))
    images[:] = images[:, :1]
    record(CandidateTrace(load_tiny(TINY), images, {"kind": "tensorflow"}), tmp_path / "grey.npz", with_float64=True)
    found = compared(candidate=planted(tmp_path, colours_swapped), reference=str(tmp_path / "grey.npz"))
    assert (found.ok, found.first_failure) == (False, None)
    weights = found.tensors
    assert weights
    assert [each.tensor for each in weights.differ] == [STEM]
    assert weights.read_by == NOT_COVERED
    assert found.unexercised[0].channels == ("red and green", "red and blue", "green and blue")
    assert "not reached by this input: colour channels apart (red and green)" in found.verdict


def test_two_runs_of_effconv_say_so() -> None:
    found = compared(reference="torch", size=(64, 64))
    assert found.ok
    assert found.verdict.startswith("two runs of effconv agree: all 331 layers hold, all ")
    assert found.reference.more["checkpoint_fingerprint"] == open_checkpoint(TINY).fingerprint()


@pytest.mark.parametrize(
    ("edit", "tensor", "reason"),
    [
        (lambda state: state.pop(STEM), STEM, "not in the candidate"),
        (lambda state: state.update(extra=torch.zeros(2)), "extra", "no variable of the checkpoint is of this name"),
        (lambda state: state.update({STEM: state[STEM][:4]}), STEM, f"{EXPECTED}, found float32 [3, 3, 3, 4]"),
        (lambda state: state.update({STEM: state[STEM].double()}), STEM, f"{EXPECTED}, found float64 [3, 3, 3, 8]"),
        (lambda state: state.update({STEM: state[STEM].flip(2)}), STEM, "144 of 216 values"),
        (lambda state: state.update({STEM: torch.zeros(())}), STEM, f"{EXPECTED}, found float32 []"),
    ],
)  # fmt: skip
def test_every_way_a_tensor_differs_is_named(
    edit: Callable[[dict[str, Tensor]], Any], tensor: str, reason: str
) -> None:
    config = config_of(TINY)
    variables, _ = official_variables(TINY, config, by_tensorflow=False)
    state = dict(load_tiny(TINY).state_dict())
    total, faults = compare_by_name(state, variables, config)
    assert (total, faults) == (len(state), ())
    edit(state)
    _, faults = compare_by_name(state, variables, config)
    assert [(each.tensor, each.reason) for each in faults] == [(tensor, reason)]


def test_bits_are_compared_and_not_values() -> None:
    config = config_of(TINY)
    variables, _ = official_variables(TINY, config, by_tensorflow=False)
    state = {key: value.clone() for key, value in load_tiny(TINY).state_dict().items()}
    name = "backbone/stem/conv2d/kernel".replace("backbone", config.backbone)
    variables[name] = variables[name].copy()
    variables[name][0, 0, 0, :2] = np.nan, 0.0
    state[STEM][0, 0, 0, 0], state[STEM][1, 0, 0, 0] = torch.nan, -0.0
    _, (fault,) = compare_by_name(state, variables, config)
    assert (fault.differ, fault.values, fault.official) == (1, 216, name)
    missing = {key: value for key, value in variables.items() if key != name}
    total, faults = compare_by_name(state, {**missing, "other": np.zeros(1, np.float32)}, config)
    assert total == len(state) + 1
    assert [(each.tensor, each.official) for each in faults] == [(STEM, name), ("", "other")]
