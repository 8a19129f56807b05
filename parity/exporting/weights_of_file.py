"""The model that an exported file is of, from its weights."""

from collections.abc import Callable
from pathlib import Path

from ...effdet_torch.config import ConfigError, get_config
from ...effdet_torch.digests import weights_digest
from ...effdet_torch.model import EfficientDet
from ...errors import EffconvError
from ...loading import CHECKPOINT_ENDINGS, load
from ..comparison.subject import Choice
from .description import About
from .exported import Exported


def model_of(choice: Choice, about: About, fetch: Callable[[str], Path]) -> tuple[EfficientDet, Path]:
    """The model to hold a file against, and the file of its weights: those of `choice`, else the release's.

    Which model it is the file says where neither `choice` nor PyTorch weights do. Raises EffconvError as `load` does.
    """
    path = choice.checkpoint
    if path is None:
        path = fetch(get_config(choice.model).name if choice.model else _released(about.config.name))
    known = choice.model or (None if path.suffix in CHECKPOINT_ENDINGS else about.config)
    return load(path, model=known, weights=choice.weights, function=choice.function, verify=choice.verify), path


def _released(name: str) -> str:
    """The model of a file without another word on its weights. Raises EffconvError where there is no such release."""
    try:
        return get_config(name).name
    except ConfigError as error:
        raise EffconvError(
            f"{name}: nothing of this name is released; name the weights that the file was made from",
            parameters={"ckpt": "CHECKPOINT"},
        ) from error


def require_weights(file: Exported, model: EfficientDet, path: Path) -> None:
    """Raise EffconvError where a model's weights, from `path`, are not those that the file says it has."""
    if (found := weights_digest(model)) != file.about.weights_sha256:
        raise EffconvError(
            f"{path}: not the weights of {file.path}: expected sha256 {file.about.weights_sha256[:16]}..., found "
            f"{found[:16]}...; leave the checkpoint out, or name the one the file was made from",
            parameters={"ckpt": None},
        )
