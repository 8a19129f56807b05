"""What a checkpoint holds, and what models there are: plain values for `inspect` and `models`."""

import math
from typing import Any

from ..effdet_torch.config import VARIANTS, get_config
from .apply import EMA_SUFFIX, average_name, averages_are_initial, examine_averages, looks_like
from .fingerprints import identify
from .rules import Rule, rules
from .sources import Checkpoint, Container
from .zoo import RELEASES


def inspect_checkpoint(checkpoint: Checkpoint, *, checked: bool) -> dict[str, Any]:
    """Container, counts, moving averages, the architectures it fits and the release it is, and every tensor.

    Reads the index alone, except for `.h5`. `checked` says whether the data was verified before, which is reported.
    """
    checksums = checkpoint.checksums()
    fits = looks_like(checkpoint.variables, checkpoint.container)
    table = rules(get_config(fits[0])) if fits else ()
    released = identify(checkpoint).released
    by = "" if checked else ", by its index"
    data = "every checksum holds" if checked else "not checked"
    return {
        "path": str(checkpoint.path),
        "container": checkpoint.container.value,
        "data": "no checksums in it" if checkpoint.container is Container.H5 else data,
        "variables": len(checkpoint.variables),
        "moving_averages": _averages(checkpoint, table),
        "fits": [f"{name} ({parameter_count(name):,} parameters)" for name in fits] or ["no official model"],
        "release": f"{released.label}{by}" if released else "none that is known",
        "fingerprint": checkpoint.fingerprint(),
        "tensors": [
            {"name": name, "dtype": dtype, "shape": list(shape), "crc32c": f"{checksums[name]:08x}"}
            for name, (dtype, shape) in checkpoint.variables.items()
        ],
    }


def _averages(checkpoint: Checkpoint, table: tuple[Rule, ...]) -> str:
    if not table:
        count = sum(name.endswith(EMA_SUFFIX) for name in checkpoint.variables)
        return f"{count} by name"
    count = sum(average_name(checkpoint.container, rule) in checkpoint.variables for rule in table)
    if count and averages_are_initial(checkpoint, table):
        return f"{count}, never filled: all hold their initial values"
    warning = examine_averages(checkpoint, table).warning if count == len(table) else ""
    return f"{count} of {len(table)}" + (f"; implausible: {warning}" if warning else "")


def parameter_count(model: str) -> int:
    """Trainable parameters of a model: everything but the moving statistics of batch norms."""
    table = rules(get_config(model))
    return sum(math.prod(rule.shape) for rule in table if not rule.tf.endswith(("/moving_mean", "/moving_variance")))


def list_models() -> list[dict[str, Any]]:
    """One row per official model: name, input size (height, width), parameters, generations released (newest first)."""
    return [
        {
            "model": name,
            "image_size": list(config.image_size),
            "parameters": parameter_count(name),
            "generations": [release.generation for release in RELEASES if release.model == name],
        }
        for name, config in VARIANTS.items()
    ]
