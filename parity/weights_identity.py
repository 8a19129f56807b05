"""By what records know the weights they are of, whatever a file is called."""

from pathlib import Path

from ..convert.conversion import file_sha256
from ..convert.sources import open_checkpoint
from ..loading import CHECKPOINT_ENDINGS


def weights_identity(path: Path) -> dict[str, str]:
    """{"sha256": of the file} of PyTorch weights, {"checkpoint_fingerprint": ...} of a TensorFlow checkpoint.

    Raises CheckpointError for a path that is neither, OSError for a file that cannot be read.
    """
    if path.suffix in CHECKPOINT_ENDINGS:
        return {"sha256": file_sha256(path)}
    return {"checkpoint_fingerprint": open_checkpoint(path, verify=False).fingerprint()}
