"""A contestant of `effconv bench convert`, run in a process of its own: converting and reading through TensorFlow."""

import sys
import time
from pathlib import Path

from ....effdet_torch.config import get_config
from ...reference.network import import_tensorflow


def convert_with_tensorflow(model: str, prefix: Path, output: Path) -> None:
    """What a plain script does: read the moving averages through TensorFlow, transpose, torch.save.

    It is given our rule table for the names; a converter that works needs one too.
    """
    tensorflow = import_tensorflow()
    import numpy
    import torch

    from ....convert.apply import EMA_SUFFIX
    from ....convert.rules import rules

    reader = tensorflow.train.load_checkpoint(str(prefix))
    state = {}
    for rule in rules(get_config(model)):
        array = numpy.asarray(reader.get_tensor(rule.tf + EMA_SUFFIX))  # a scalar variable comes as a bare number
        state[rule.torch] = torch.from_numpy(rule.layout.to_torch(array).copy())
    torch.save(state, output)


def seconds_to_read_with_tensorflow(prefix: Path) -> float:
    """Seconds TensorFlow takes, once imported, to open a checkpoint and read every tensor; it verifies checksums."""
    tensorflow = import_tensorflow()
    start = time.perf_counter()
    reader = tensorflow.train.load_checkpoint(str(prefix))
    for name in reader.get_variable_to_shape_map():
        reader.get_tensor(name)
    return time.perf_counter() - start


if __name__ == "__main__":
    job, *arguments = sys.argv[1:]
    if job == "convert":
        convert_with_tensorflow(arguments[0], Path(arguments[1]), Path(arguments[2]))
    else:
        print(seconds_to_read_with_tensorflow(Path(arguments[0])))
