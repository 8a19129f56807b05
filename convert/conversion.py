"""The two conversions as whole jobs: checkpoint to weights file, and back. Output appears complete or not at all."""

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..effdet_torch.config import Config, config_to_dict
from ..strict_json import json_text
from ..version import __version__
from .apply import EMA_SUFFIX, Plan, apply, apply_inverse, plan, require_finite
from .fingerprints import identify
from .formats.bundle import shard_suffix, write_bundle
from .layout import Array
from .output import OutputError, replacing
from .output_kinds import CHECKPOINT_MARK
from .plausibility import AveragesWarning
from .rules import as_text, rules
from .sources import Checkpoint
from .weights_file import save_weights

FOLDER_PREFIX = "model"  # of a checkpoint in a folder that was named
MANIFEST_ENDING = ".manifest.json"


class Conversion(NamedTuple):
    """A converted checkpoint: the state dict, and what a reader must know about where it came from."""

    config: Config
    state: dict[str, Array]
    plan: Plan
    manifest: dict[str, Any]


def convert(
    checkpoint: Checkpoint,
    config: Config,
    weights: str | None = None,
    *,
    verify: bool = True,
    allow_nonfinite: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> Conversion:
    """Turn a checkpoint into a PyTorch state dict of float32 arrays, every variable accounted for.

    Warns (AveragesWarning) of moving averages that training can hardly have left.

    `weights` is "ema", "raw" or None (moving averages where there are any). Unless `verify` is False the checksum of
    every tensor is checked first, used or not; `report(done, total)` follows that in bytes. Raises CheckpointError.
    """
    chosen = plan(checkpoint, config, weights)
    if verify:
        checkpoint.verify(report)
    state = apply(chosen, checkpoint.read, checkpoint.release)
    if not allow_nonfinite:
        require_finite({name: state[rule.torch] for rule, name in chosen.rows}, str(checkpoint.path))
    if chosen.averages and chosen.averages.warning:
        warnings.warn(f"{checkpoint.path}: {chosen.averages.warning}", AveragesWarning, stacklevel=2)
    return Conversion(config, state, chosen, _manifest(checkpoint, config, chosen, verify))


def _manifest(checkpoint: Checkpoint, config: Config, chosen: Plan, verify: bool) -> dict[str, Any]:
    identification = identify(checkpoint)
    return {
        "effconv": __version__,
        "model": config.name,
        "weights": chosen.weights,
        "source": {
            "file": checkpoint.path.name,
            "container": checkpoint.container.value,
            "fingerprint": checkpoint.fingerprint(),
            "released_checkpoint": identification.released and identification.released.label,
            "generation": identification.released and identification.released.generation,
            "checksums_verified": verify and checkpoint.has_checksums,
        },
        "rule_table": rule_table_digest(config),
        "tensors": len(chosen.rows),
        "averages": chosen.averages and chosen.averages._asdict(),
        "dropped": chosen.dropped,
        "config": config_to_dict(config),
    }


def rule_table_digest(config: Config) -> str:
    """A digest of every row of a model's rule table: equal exactly when two conversions map the same way."""
    return "sha256:" + hashlib.sha256(as_text(rules(config)).encode()).hexdigest()


def manifest_path(weights: Path) -> Path:
    """Where the manifest of a file of weights lies: `mine.manifest.json` for `mine.safetensors`.

    Others may lie beside it under the same name. Theirs is `mine.h5.manifest.json`.
    """
    own = weights.stem if weights.suffix == ".safetensors" else weights.name
    return weights.with_name(own + MANIFEST_ENDING)


def write_weights(conversion: Conversion, path: Path) -> Path:
    """Write `path` (.safetensors) and the manifest beside it (same name, .manifest.json). Returns the manifest's path.

    The same checkpoint gives the same bytes. Raises OutputError, leaving what was there before untouched.
    """
    from safetensors import SafetensorError

    if path.suffix != ".safetensors":
        raise OutputError(f"{path}: converted weights are .safetensors; name the output so")
    manifest = manifest_path(path)
    with replacing(path, manifest, errors=(SafetensorError,)) as (weights_file, manifest_file):
        save_weights(conversion.state, conversion.config, weights_file, conversion.plan.weights)
        described = {**conversion.manifest, "sha256": file_sha256(weights_file)}
        manifest_file.write_text(json_text(described, indent=1) + "\n", encoding="utf-8")
    return manifest


def file_sha256(path: Path) -> str:
    """The sha256 of a file, by which a manifest says of which weights it is. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checkpoint_prefix(output: str) -> Path:
    """The prefix of a checkpoint to write; a folder, one that is there or a name with a separator behind it, stands for
    the prefix `model` in it."""
    prefix = Path(output)
    return prefix / FOLDER_PREFIX if output.endswith(os.sep) or prefix.is_dir() else prefix


def checkpoint_paths(prefix: Path) -> list[Path]:
    """The files of an exported checkpoint: its data, its index, and its directory's `checkpoint` file."""
    names = (prefix.name + shard_suffix(0, 1), f"{prefix.name}.index", "checkpoint")
    return [prefix.with_name(name) for name in names]


def write_checkpoint(
    raw: Mapping[str, Array], averages: Mapping[str, Array], config: Config, prefix: Path, source: str
) -> list[Path]:
    """Write a release-style TF1 checkpoint at `prefix`: every variable X from `raw`, its moving average from `averages`
    (both state dicts in PyTorch's layout), and global_step 0; and the directory's `checkpoint` file.

    Returns the paths written. Raises IncompleteConversion for state dicts of another model, OutputError when the files
    cannot be written; then what was there before is untouched.
    """
    shadows = apply_inverse(averages, config, source)
    tensors: dict[str, Array | bytes] = {**apply_inverse(raw, config, source)}
    tensors |= {name + EMA_SUFFIX: array for name, array in shadows.items()}
    tensors["global_step"] = np.array(0, np.int64)
    return write_checkpoint_files(tensors, prefix)


def write_checkpoint_files(tensors: Mapping[str, Array | bytes], prefix: Path) -> list[Path]:
    """Write a checkpoint of `tensors` at `prefix`, and the directory's `checkpoint` file; the paths written.

    Raises OutputError when the files cannot be written; then what was there before is untouched.
    """
    index, data = write_bundle(tensors)
    paths = checkpoint_paths(prefix)
    with replacing(*paths) as (data_file, index_file, state_file):
        with data_file.open("wb") as file:
            for array in data:
                file.write(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        index_file.write_bytes(index)
        quoted = json_text(prefix.name)
        state_file.write_text(
            f"{CHECKPOINT_MARK}\nmodel_checkpoint_path: {quoted}\nall_model_checkpoint_paths: {quoted}\n"
        )
    return paths
