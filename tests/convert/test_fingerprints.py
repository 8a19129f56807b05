"""Recognising released checkpoints by the checksums in their index files."""

import json
import zlib
from pathlib import Path

import pytest

from effconv.convert.apply import EMA_SUFFIX, plan
from effconv.convert.fingerprints import identify, known_checkpoints
from effconv.convert.rules import rules
from effconv.convert.sources import Checkpoint, Container, Variable, open_checkpoint
from effconv.effdet_torch.config import get_config

LABELS = [known.label for known in known_checkpoints()]


def recorded_checkpoint(path: Path) -> tuple[str, Checkpoint]:
    """(model, a checkpoint that has a recorded index and no data)."""
    data = json.loads(path.read_text())
    entries = data["variables"]
    variables = {name: Variable(entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()}
    checkpoint = Checkpoint(path, Container.TF1, variables, lambda name: pytest.fail("the index alone must do"), None)
    checkpoint.checksums = lambda: {n: e["crc32c_masked"] for n, e in entries.items()}  # type: ignore[method-assign]
    return data["model"], checkpoint


def test_seven_released_checkpoints_are_known() -> None:
    assert len(LABELS) == len(set(LABELS)) == 7
    for known in known_checkpoints():
        names = {rule.tf for rule in rules(get_config(known.model))}
        assert set(known.checksums) == names | {name + EMA_SUFFIX for name in names} | {"global_step"}


@pytest.mark.shared
@pytest.mark.parametrize("label", LABELS)
def test_recorded_indexes_are_accounted_for_and_identified(label: str, shared: Path) -> None:
    model, checkpoint = recorded_checkpoint(shared / "facts" / "checkpoint_indexes" / f"{label}.json")
    chosen = plan(checkpoint, get_config(model))  # raises when a single variable is unaccounted for
    assert (chosen.weights, len(chosen.rows) + len(chosen.dropped)) == ("ema", len(checkpoint.variables))
    found = identify(checkpoint)
    assert found.released
    assert found.released.label == label
    assert found.agreements[0].equal == found.agreements[0].total == len(checkpoint.variables)
    assert found.agreements[1].equal < found.agreements[1].total / 10


@pytest.mark.shared
@pytest.mark.parametrize(
    ("index", "label", "weights", "tensors"),
    [
        ("efficientdet-d0.coco2.model", "efficientdet-d0.coco2-343", "ema", 1419),
        ("efficientdet-d4.coco.model", "efficientdet-d4.coco-490", "ema", 2709),
        # An exported SavedModel: its plain weights are the release's moving averages.
        ("efficientdet-d0.savedmodel.variables", "efficientdet-d0.coco2-343", "only", 709),
    ],
)
def test_real_index_files_alone_are_enough(index: str, label: str, weights: str, tensors: int, shared: Path) -> None:
    checkpoint = open_checkpoint(shared / "facts" / "checkpoint_indexes" / "raw" / f"{index}.index")
    found = identify(checkpoint)
    assert found.released
    assert found.released.label == label
    assert found.agreements[0].total == tensors
    chosen = plan(checkpoint, get_config(found.released.model))
    assert (chosen.weights, len(chosen.rows) + len(chosen.dropped)) == (weights, len(checkpoint.variables))


@pytest.mark.shared
def test_one_changed_tensor_is_counted_and_no_longer_identified(shared: Path) -> None:
    _, checkpoint = recorded_checkpoint(shared / "facts" / "checkpoint_indexes" / f"{LABELS[0]}.json")
    changed = checkpoint.checksums()
    name = sorted(changed)[zlib.crc32(b"any") % len(changed)]
    changed[name] ^= 1
    checkpoint.checksums = lambda: changed  # type: ignore[method-assign]
    found = identify(checkpoint)
    assert found.released is None
    assert (found.agreements[0].label, found.agreements[0].total - found.agreements[0].equal) == (LABELS[0], 1)


def test_other_checkpoints_are_none_of_them(tiny: Path) -> None:
    for part in ("model", "keras", f"{tiny.name}.h5"):
        found = identify(open_checkpoint(tiny / part))
        assert found.released is None
        assert len(found.agreements) == 7
        assert all(agreement.equal <= 1 for agreement in found.agreements)  # at most global_step
