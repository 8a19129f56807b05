"""Read every tensor of a checkpoint: CHECKPOINT. Prints seconds until all are verified, and until all are copied."""

import sys
import time

from ....convert.sources import open_checkpoint


def main(checkpoint_path: str) -> None:
    """Tensors are views of the file's bytes where they can be; copies are what most programs need in the end."""
    start = time.perf_counter()
    checkpoint = open_checkpoint(checkpoint_path)
    checkpoint.verify()
    arrays = {name: checkpoint.read(name) for name in checkpoint.variables}
    print(time.perf_counter() - start)
    _copies = {name: array.copy() for name, array in arrays.items()}  # kept: giving memory back is not measured
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main(*sys.argv[1:])
