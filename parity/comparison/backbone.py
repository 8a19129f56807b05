"""A backbone that somebody trained alone, as part of a whole detector that can be compared layer by layer."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ...convert.conversion import write_checkpoint
from ...effdet_torch.config import Config
from ...effdet_torch.training.start import random_model
from ...loading import read_backbone
from ..evaluation.contents import digest
from .records import BackboneRecord

SEED = 0  # of the random BiFPN and heads


class Completed(NamedTuple):
    """A checkpoint of a whole detector, and whose backbone it has."""

    checkpoint: Path
    record: BackboneRecord


@contextlib.contextmanager
def completed(file: Path, config: Config, *, verify: bool = True) -> Iterator[Completed]:
    """A TF1 checkpoint, for as long as it is needed, with the backbone in `file` and BiFPN and heads to train from.

    Both sides of a comparison then read one file that TensorFlow can read. Raises EffconvError as `read_backbone` does.
    """
    backbone = read_backbone(file, config, verify=verify)
    start = {key: value.numpy() for key, value in random_model(config, SEED).state_dict().items()}
    state = start | backbone.state
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder) / file.stem / "model"
        write_checkpoint(state, state, config, prefix, str(file))
        yield Completed(
            prefix.parent,
            BackboneRecord(
                file=file.name,
                sha256=digest(file.read_bytes()) if file.is_file() else None,
                names=backbone.port,
                tensors=len(backbone.state),
                left_out=tuple(backbone.left_out),
                rest=f"BiFPN and heads as a training begins with them, seed {SEED}",
            ),
        )
