"""What can be said of weights that are to be published, from the file, its manifest and its values."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...convert.conversion import file_sha256, manifest_path
from ...convert.fingerprints import identify_state
from ...convert.output_kinds import MANIFEST
from ...convert.weights_file import StoredWeights
from ...effdet_torch.config import Config
from ...errors import CheckpointError
from ...loading import read_stored

STATISTICS = ("running_mean", "running_var")  # of batch norm: state, and no parameters
NO_MANIFEST = "no manifest lies beside the weights"
UNBOUND = "the manifest beside the weights does not say of which file it is"


@dataclass(frozen=True, kw_only=True)
class Published:
    """Weights to be published, as a card describes them."""

    config: Config
    sha256: str  # of the `.safetensors` file
    parameters: int
    kind: str | None  # "ema", "raw" or "only", as `Plan.weights`; None where the file does not say
    release: str | None  # label of the released checkpoint whose values these are, found by their checksums
    manifest: Mapping[str, Any] | None  # of these very weights
    no_manifest: str = ""  # why there is none

    @property
    def fingerprint(self) -> str | None:
        """Of the checkpoint that was converted."""
        return self.manifest["source"].get("fingerprint") if self.manifest else None


def describe_weights(path: Path, *, verify: bool = True) -> Published:
    """What can be said of a `.safetensors` file that effconv wrote.

    Raises CheckpointError for a damaged file, one that another program wrote, and one with another file's manifest.
    """
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: expected weights that effconv wrote, a .safetensors file; convert them first")
    stored = read_stored(path, verify=verify)
    if stored.config is None:
        raise CheckpointError(f"{path}: does not say which model it is of; convert it first (`effconv convert`)")
    sha256 = file_sha256(path)
    manifest, why = _manifest_of(path, sha256)
    return published(stored, stored.config, sha256, manifest, why)


def published(
    stored: StoredWeights, config: Config, sha256: str, manifest: Mapping[str, Any] | None, no_manifest: str = ""
) -> Published:
    """The same of weights that are at hand. Raises IncompleteConversion for those of another model."""
    return Published(
        config=config,
        sha256=sha256,
        parameters=sum(
            int(np.prod(array.shape)) for key, array in stored.state.items() if not key.endswith(STATISTICS)
        ),
        kind=stored.weights,
        release=_release(stored, config),
        manifest=manifest,
        no_manifest=no_manifest,
    )


def _release(stored: StoredWeights, config: Config) -> str | None:
    """The label of a released checkpoint; never of the other set of weights than the file says it holds."""
    found = identify_state(stored.state, config, config.name)
    if found.released is None:
        return None
    kind = {"ema": "moving averages", "raw": "raw weights"}.get(stored.weights or "")
    whole = {row.label for row in found.agreements if row.equal == row.total}
    return found.released.label if kind and f"{found.released.label}, {kind}" in whole else None


def _manifest_of(path: Path, sha256: str) -> tuple[dict[str, Any] | None, str]:
    """(the manifest beside the file, why there is none). One that is of a file of other content is refused."""
    manifest = manifest_path(path)
    if not manifest.is_file() or not MANIFEST.recognises(manifest):
        return None, NO_MANIFEST
    values: dict[str, Any] = json.loads(manifest.read_bytes())
    if not isinstance(values["source"], dict) or "sha256" not in values:
        return None, UNBOUND
    if values["sha256"] != sha256:
        raise CheckpointError(
            f"{manifest}: is of other weights: expected sha256 {sha256}, found {values['sha256']!r:.80}; "
            "convert again, or remove it"
        )
    return values, ""
