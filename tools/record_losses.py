"""effdet's training loss beside ours and TensorFlow's, stage by stage, and why `effconv bench training` shows two.

    python tools/record_losses.py FOLDER

FOLDER has the ports' sources (`port_classes.py` says where from). Weights, images and boxes are those that the bench
makes up. Writes results/measured/losses.json; exits with status 1 where a stage differs by no known mistake, where
TensorFlow's differs, or where the bench's difference stays without its causes. Takes a few minutes.
"""

import sys
import tempfile
from pathlib import Path

import torch
from port_classes import find_sources
from subjects import MEASURED
from torch import nn

from effconv.parity.benchmarks.process import make_checkpoint
from effconv.parity.benchmarks.training import Effdet, Ours, TrainingContest, enter, made_up_boxes
from effconv.parity.provenance import provenance
from effconv.parity.referee.loss import UNKNOWN, LossComparison, compare_loss
from effconv.parity.referee.loss_records import LossesRecord, TrainingDifference
from effconv.parity.referee.loss_sides import by_level
from effconv.parity.rendering.record import write_record

BENCHED = (("d0", 4), ("d1", 2))  # models and batches of results/measured/bench-training-*.json
SIZE = (512, 512)
# Of a loss: float32 sums of some millions of terms, by two programs. Anchors of other aspects make 6e-3 and more.
LEFT = 1e-5


def keep_all_blocks(network: nn.Module) -> None:
    """No block is dropped at random any more, of ours or timm's."""
    for module in network.modules():
        module._forward_hooks.clear()  # ours drops from outside
        if type(module).__name__ == "DropPath":
            module.drop_prob = 0.0


def give_targets(theirs: Effdet, ours: Ours) -> None:
    """Let effdet train on the targets that our anchors give."""
    config = ours.training.model.config
    theirs.target["label_num_positives"] = ours.targets.positives
    for name, values in (("cls", ours.targets.classes), ("bbox", ours.targets.codes)):
        for level, part in enumerate(by_level(values, config)):
            theirs.target[f"label_{name}_{level}"] = part


def measure(model: str, batch: int, checkpoint: Path) -> tuple[LossComparison, TrainingDifference]:
    """Both rows of a model."""
    contest = TrainingContest(model, SIZE, batch, ["effconv", "effdet"], 1, 1, "cpu", "float32")
    ours, theirs = enter("effconv", contest, checkpoint), enter("effdet", contest, checkpoint)
    assert isinstance(ours, Ours)
    assert isinstance(theirs, Effdet)
    benched = ours.forward(), theirs.forward()
    for network in (ours.training.model, theirs.bench):
        keep_all_blocks(network)
    kept = ours.forward(), theirs.forward()
    give_targets(theirs, ours)
    network = ours.training.model
    difference = TrainingDifference(
        model=network.config.name,
        image_size=SIZE,
        batch=batch,
        ours=benched[0],
        theirs=benched[1],
        ours_all_blocks=kept[0],
        theirs_all_blocks=kept[1],
        theirs_on_our_targets=theirs.forward(),
    )
    with torch.no_grad():
        logits, codes = network(ours.images)
    boxes, classes = made_up_boxes(contest, network.config.num_classes)
    found = compare_loss("effdet", network, logits, codes, list(boxes), list(classes))
    print(found, difference, difference.left, flush=True)
    return found, difference


def main(folder: str) -> None:
    """Write the record."""
    find_sources(Path(folder))
    with tempfile.TemporaryDirectory() as work:
        pairs = []
        for model, batch in BENCHED:
            make_checkpoint(model, f"{work}/{model}")
            pairs.append(measure(model, batch, Path(work, model)))
    comparisons, training = zip(*pairs, strict=True)
    import effdet.version
    import timm
    from tensorflow import __version__ as tensorflow

    record = LossesRecord(
        what="anchors, targets and losses of other projects beside effconv's and TensorFlow's, stage by stage",
        command="python tools/record_losses.py FOLDER",
        versions={"effdet": effdet.version.__version__, "timm": timm.__version__, "tensorflow": tensorflow},
        comparisons=comparisons,
        training=training,
        provenance=provenance(),
    )
    write_record(record.plain(), MEASURED / "losses.json")
    rows = [row for found in comparisons for row in found.rows]
    unexplained = any(row.why == UNKNOWN for row in rows)
    official = all((row.official_difference or 0) <= row.limit for row in rows)
    sys.exit(0 if official and not unexplained and max(each.left for each in training) < LEFT else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
