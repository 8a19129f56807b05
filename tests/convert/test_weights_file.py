"""Weights on disk: a damaged byte is named or does not matter, and files without checksums are taken with a notice."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import save_file

import effconv
from effconv.cli import main
from effconv.convert.conversion import convert, write_weights
from effconv.convert.sources import open_checkpoint
from effconv.convert.weights_file import StoredWeights, read_weights, save_weights
from effconv.effdet_torch.config import config_to_dict, get_config
from effconv.errors import CheckpointError, EffconvError
from effconv.loading import UncheckedWarning

TINY = Path(__file__).parent.parent / "golden" / "tiny-lite"
CONFIG = get_config(str(TINY / "config.json"))
CORRUPTIONS = 50


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_weights(convert(open_checkpoint(TINY), CONFIG), tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


def header_of(path: Path) -> int:
    """Bytes before the tensors' data."""
    return 8 + int.from_bytes(path.read_bytes()[:8], "little")


def attempt(path: Path) -> StoredWeights | EffconvError:
    try:
        return read_weights(path)
    except EffconvError as error:
        return error


@pytest.mark.parametrize("part", ["header", "data"])
def test_one_wrong_byte_is_refused_or_changes_nothing(part: str, written: Path) -> None:
    whole = written.read_bytes()
    expected = {key: array.tobytes() for key, array in read_weights(written).state.items()}
    random = np.random.default_rng(7)
    start, stop = (0, header_of(written)) if part == "header" else (header_of(written), len(whole))
    refused = 0
    for place in random.integers(start, stop, CORRUPTIONS):
        damaged = bytearray(whole)
        damaged[place] ^= int(random.integers(1, 256))
        written.write_bytes(damaged)
        found = attempt(written)
        if isinstance(found, EffconvError):
            assert str(written) in str(found)
            refused += 1
        else:
            assert found.config in (None, CONFIG)
            assert {key: array.tobytes() for key, array in found.state.items()} == expected, place
    assert refused >= CORRUPTIONS - 1


def test_a_damaged_tensor_is_named_and_the_check_can_be_left_out(written: Path) -> None:
    damaged = bytearray(written.read_bytes())
    damaged[-1] ^= 1
    written.write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"x\.safetensors: tensor [\w.]+ is damaged: expected float32 \["):
        effconv.load(written)
    assert effconv.load(written, verify=False).config == CONFIG
    refused = CliRunner().invoke(main, ["torch2tf", str(written), "-o", str(written.parent / "back")])
    assert refused.exit_code == 2
    assert "is damaged" in refused.stderr
    taken = CliRunner().invoke(main, ["torch2tf", str(written), "-o", str(written.parent / "back"), "--no-verify"])
    assert (taken.exit_code, taken.stderr) == (0, "")


def rewritten_header(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert len(old) == len(new)
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def test_a_tensor_of_another_name_type_or_shape_is_refused(tmp_path: Path) -> None:
    state = {"bias": np.arange(12, dtype=np.float32).reshape(3, 4)}
    for old, new, message in (
        (b'"bias":{', b'"bIas":{', "tensor bIas is not among those that were written"),
        (b'"dtype":"F32"', b'"dtype":"I32"', "tensor bias is damaged: expected float32"),
        (b'"shape":[3,4]', b'"shape":[4,3]', r"expected float32 \[3, 4\] .* found float32 \[4, 3\]"),
        (b'\\"num_classes\\": 90', b'\\"num_classes\\": 91', "its list of tensors does not have its stored checksum"),
    ):
        save_weights(state, get_config("d0"), tmp_path / "x.safetensors")
        rewritten_header(tmp_path / "x.safetensors", old, new)
        with pytest.raises(CheckpointError, match=message):
            read_weights(tmp_path / "x.safetensors")


def test_files_without_checksums_are_taken_with_a_notice(written: Path, tmp_path: Path) -> None:
    state = read_weights(written).state
    former = tmp_path / "former.safetensors"
    save_file(state, former, metadata={"effconv.config": json.dumps(config_to_dict(CONFIG))})
    pickled = tmp_path / "x.pth"
    torch.save({key: torch.from_numpy(array) for key, array in state.items()}, pickled)
    for path, model in ((former, None), (pickled, CONFIG)):
        with pytest.warns(UncheckedWarning, match=f"{path.name}: has no checksums"):
            assert effconv.load(path, model=model).config == CONFIG
        with warnings.catch_warnings(action="error"):
            effconv.load(path, model=model, verify=False)
    done = CliRunner().invoke(main, ["torch2tf", str(former), "-o", str(tmp_path / "back")])
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [
        f"effconv: warning: {former}: has no checksums, so its weights are taken as they are; "
        "files effconv writes have them"
    ]
