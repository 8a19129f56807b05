"""Which of a file's weights a model was loaded with, as records say it: moving averages, raw weights, or not known."""

from pathlib import Path

from ...convert.apply import plan
from ...convert.sources import open_checkpoint
from ...convert.weights_file import read_weights
from ...effdet_torch.config import Config
from ...loading import CHECKPOINT_ENDINGS

AS_IN_FILE = "as in the file"  # which holds one set and does not say what it is; no published record is of that


def weights_used(path: Path, config: Config, asked: str | None) -> str:
    """ "ema", "raw" or AS_IN_FILE: what `loading.load(path, weights=asked)` took for a model of that Config.

    Raises EffconvError as `load` does.
    """
    if path.suffix == ".safetensors":
        kind = read_weights(path, verify=False).weights
    elif path.suffix in CHECKPOINT_ENDINGS:
        kind = asked
    else:
        kind = plan(open_checkpoint(path, verify=False), config, asked).weights
    return kind if kind in ("ema", "raw") else AS_IN_FILE
