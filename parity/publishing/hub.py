"""A folder as hubs have them: configuration, weights, manifest and model card, written whole or not at all."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...convert.apply import with_its_classes
from ...convert.conversion import convert, file_sha256, manifest_path
from ...convert.hub_folder import CARD_NAME, CONFIG_NAME, WEIGHTS_NAME, folder_config
from ...convert.output import replacing
from ...convert.output_kinds import CARD, HUB_CONFIG, MANIFEST, WEIGHTS, Kind
from ...convert.sources import open_checkpoint
from ...convert.weights_file import StoredWeights, save_weights
from ...effdet_torch.config import Config, ConfigError, config_to_dict, get_config
from ...loading import CHECKPOINT_ENDINGS, read_file, read_stored
from ...strict_json import json_text
from ...version import __version__
from .card import card
from .weights import describe_weights, published


@dataclass(frozen=True, kw_only=True)
class Source:
    """Weights to publish, and what their manifest says of where they are from."""

    stored: StoredWeights
    config: Config
    manifest: dict[str, Any]


def hub_outputs(folder: Path) -> dict[Path, Kind]:
    """The files of a folder, with what each is."""
    weights = folder / WEIGHTS_NAME
    return {
        folder / CONFIG_NAME: HUB_CONFIG,
        weights: WEIGHTS,
        manifest_path(weights): MANIFEST,
        folder / CARD_NAME: CARD,
    }


def read_source(path: Path, model: str | None = None, weights: str | None = None, *, verify: bool = True) -> Source:
    """The weights at `path`, options as `loading.load` has them. Raises EffconvError as it does."""
    if path.suffix not in CHECKPOINT_ENDINGS:
        if model is None:
            raise ConfigError(f"{path}: name the model it is of, such as d0", parameters={"model": "d0"})
        checkpoint = open_checkpoint(path, verify=verify)
        config = with_its_classes(checkpoint.variables, checkpoint.container, get_config(model))
        done = convert(checkpoint, config, weights, verify=verify)
        stored = StoredWeights(done.state, config, None, done.plan.weights)
        return Source(stored=stored, config=config, manifest=done.manifest)
    read = read_file(path, model, weights=weights, verify=verify)
    kind, manifest = weights, None
    if path.suffix == ".safetensors":
        own = read_stored(path, verify=False)
        kind = own.weights
        if own.config == read.config:
            manifest = describe_weights(path, verify=False).manifest
    found = StoredWeights(read.state, read.config, None, kind)
    made = {
        "effconv": __version__,
        "model": read.config.name,
        "weights": kind,
        "source": {"file": path.name, "container": f"PyTorch weights ({path.suffix})", "sha256": file_sha256(path)},
        "config": config_to_dict(read.config),
    }
    return Source(stored=found, config=read.config, manifest=dict(manifest) if manifest else made)


def write_hub(
    source: Source, folder: Path, parity: Sequence[Path] = (), evaluations: Sequence[Path] = ()
) -> list[Path]:
    """Write the folder; the paths written. `parity` and `evaluations` are records of these weights for the card.

    The same weights give the same bytes. Raises OutputError when something cannot be written, EffconvError for a record
    of other weights; then nothing is.
    """
    from safetensors import SafetensorError

    made = not folder.exists()
    outputs = list(hub_outputs(folder))
    try:
        with replacing(*outputs, errors=(SafetensorError,)) as (config, weights, manifest, readme):
            save_weights(source.stored.state, source.config, weights, source.stored.weights)
            described = {**source.manifest, "sha256": file_sha256(weights)}
            about = published(source.stored, source.config, described["sha256"], described)
            readme.write_text(card(about, ".", parity, evaluations), encoding="utf-8")
            config.write_text(json_text(folder_config(source.config), indent=1) + "\n", encoding="utf-8")
            manifest.write_text(json_text(described, indent=1) + "\n", encoding="utf-8")
    except BaseException:
        if made:
            with contextlib.suppress(OSError):  # what is not empty stays
                folder.rmdir()
        raise
    return outputs
