"""Written weights beside the checkpoint they were made from: the file is read back and compared, tensor by tensor."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...convert.apply import plan
from ...convert.rules import rules
from ...convert.sources import open_checkpoint
from ...convert.weights_file import read_weights
from ...effdet_torch.config import Config
from ...errors import CheckpointError, first_names
from ..reference.reading import NOT_COVERED
from ..traces.official import official_variables


class Written(NamedTuple):
    """What a file of written weights was found to hold."""

    equal: int  # tensors that are their variable's, bit for bit
    expected: int  # rows of the rule table
    dropped: int  # variables of the checkpoint that are left out, each for a reason
    differing: tuple[str, ...]  # what is not equal, missing or too much, in the words of the verdict
    reading: str  # who read the checkpoint

    @property
    def holds(self) -> bool:
        """Whether the file holds every tensor and nothing else."""
        return not self.differing and self.equal == self.expected

    @property
    def verdict(self) -> str:
        """One sentence; it names the first tensors that differ."""
        counts = (
            f"{self.equal} of {self.expected} written tensors are the checkpoint's bit for bit, as read {self.reading}"
        )
        if not self.differing:
            return f"{counts}; {self.dropped} others accounted for"
        return f"{counts}; {len(self.differing)} differ: {first_names(self.differing)}"


def compare_written(checkpoint: Path, config: Config, weights: Path, *, live: bool) -> Written:
    """Every tensor of `weights` (.safetensors) beside its variable of `checkpoint`, moved by the rule table's layout.

    TensorFlow reads the checkpoint if `live`, otherwise we do. Raises CheckpointError for a checkpoint that does not
    fit.
    """
    variables, dropped, reading = _variables(checkpoint, config, live)
    try:
        state, stored, *_ = read_weights(weights)
    except CheckpointError as error:
        return Written(0, len(rules(config)), dropped, (str(error),), reading)
    equal = 0
    differing: list[str] = []
    if stored != config:
        differing.append(f"the configuration in {weights.name}")
    for rule in rules(config):
        expected, found = rule.layout.to_torch(variables[rule.tf]), state.pop(rule.torch, None)
        if found is None:
            differing.append(f"{rule.torch} (missing)")
        elif not _same_bits(found, expected):
            differing.append(f"{rule.torch} ({rule.tf})")
        else:
            equal += 1
    differing += [f"{key} (of no variable)" for key in state]
    return Written(equal, len(rules(config)), dropped, tuple(differing), reading)


def _variables(path: Path, config: Config, live: bool) -> tuple[dict[str, NDArray[np.float32]], int, str]:
    """({official TF1 name: array as stored}, how many variables are left out, who read them)."""
    checkpoint = open_checkpoint(path)
    chosen = plan(checkpoint, config)
    if live:
        variables, source = official_variables(path, config)
        return variables, len(chosen.dropped), str(source["reading"])
    return {rule.tf: checkpoint.read(name) for rule, name in chosen.rows}, len(chosen.dropped), NOT_COVERED


def _same_bits(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    """Equality of bytes, so that NaN is itself and -0 is not 0."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    return np.ascontiguousarray(found).tobytes() == np.ascontiguousarray(expected).tobytes()
