"""From a file of weights, whatever its kind, to a state dict or to a model ready to run."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .convert.apply import require_finite, require_state, with_its_classes
from .convert.conversion import convert
from .convert.fingerprints import identify_state
from .convert.hub_folder import weights_in
from .convert.layout import Array
from .convert.namings.backbones import BackboneWeights, backbone_of, official_backbone
from .convert.namings.containers import unwrapped
from .convert.namings.naming import OURS_EPSILON, Naming
from .convert.namings.recognition import EFFCONV, Fit, recognise
from .convert.namings.tensors import from_port
from .convert.sources import open_checkpoint
from .convert.weights_file import StoredWeights, read_weights
from .effdet_torch.config import VARIANTS, Config, ConfigError, get_config, require_classes
from .errors import CheckpointError

FUNCTIONS = ("port", "official")
OWN_POOL = "its own network pads max-pooling with zeros, TensorFlow's with minus infinity"
OWN_EPSILON = "its own batch norm has an epsilon of {:g}, TensorFlow's of 1e-3, which the running variances make up for"
CHECKPOINT_ENDINGS = (".safetensors", ".pth", ".pt")  # PyTorch weights, which have no official fingerprint

if TYPE_CHECKING:
    from .effdet_torch.model import EfficientDet

PICKLE_ENDINGS = (".pth", ".pt")


class PortWarning(UserWarning):
    """What was made of a file that another port wrote, or that does not say which model it is of."""


class FunctionError(CheckpointError):
    """A choice of function for a file that leaves none."""


class UncheckedWarning(UserWarning):
    """PyTorch weights from a file without checksums: damage to it cannot be seen."""


def load(
    path: str | os.PathLike[str],
    model: str | Config | None = None,
    *,
    weights: str | None = None,
    function: str | None = None,
    num_classes: int | None = None,
    verify: bool = True,
    allow_nonfinite: bool = False,
) -> "EfficientDet":
    """An EfficientDet with the weights at `path`: in eval mode, float32, on the CPU.

    `path` is a TensorFlow checkpoint (directory, prefix, `.index`, `.tar.gz`, `.h5`), a `.safetensors` made by
    effconv, a folder with one and its `config.json`, or a `.pth` or `.safetensors` of another port; or a model's name
    ("d1"), whose released checkpoint is downloaded, or taken from the cache. With another `num_classes` than the
    file's, the class head's last convolution is new, at random: a model to fine-tune. `model` is an official name, an
    alias, a JSON file or a Config; PyTorch weights know their own, or are recognised. `weights` is "ema", "raw" or None
    (moving averages where there are any). `verify` checks every checksum, and warns (UncheckedWarning) of PyTorch
    weights that have none. NaN and infinite weights are refused unless `allow_nonfinite`.

    Some ports' own networks compute another function with the same tensors (`Config.zero_padded_pool`, another epsilon
    of batch norm, which the running variances can make up for). Their files are
    taken as of `function` "port" (trained there) or "official" (Google's, converted); None: as official when the values
    are those of a known release, else as the port's, which is warned of (PortWarning).

    Raises EffconvError, naming what is wrong, when the file is damaged or does not fit the model in every tensor.
    """
    import torch

    from .effdet_torch.model import EfficientDet

    path, model = _release(path, model, verify)
    path = weights_in(path)
    if weights not in (None, "ema", "raw"):
        raise ValueError(f"weights must be 'ema', 'raw' or None, found {weights!r}")
    if function not in (None, *FUNCTIONS):
        raise ValueError(f"function must be 'port', 'official' or None, found {function!r}")
    if path.suffix == ".safetensors" or path.suffix in PICKLE_ENDINGS:
        state, config = read_state(
            path, model, weights=weights, function=function, verify=verify, allow_nonfinite=allow_nonfinite
        )
    else:
        _require_choice(False, function, path)
        checkpoint = open_checkpoint(path, verify=verify)
        config = with_its_classes(checkpoint.variables, checkpoint.container, _require_model(path, model))
        state = convert(checkpoint, config, weights, verify=verify, allow_nonfinite=allow_nonfinite).state
    with torch.device("meta"):
        network = EfficientDet(config)
    tensors = {key: torch.from_numpy(array) for key, array in state.items()}
    if num_classes is not None and num_classes != config.num_classes:
        require_classes(num_classes)
        from .effdet_torch.training.start import transferred

        return transferred(tensors, config, (None,) * num_classes, seed=0).model.eval()
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.eval()


def _release(
    path: str | os.PathLike[str], model: str | Config | None, verify: bool
) -> tuple[Path, str | Config | None]:
    """The file that is meant, and its model: of a model's name, where no file has it, the released checkpoint."""
    name = os.fspath(path)
    if model is not None or Path(path).exists() or name.endswith(".json"):
        return Path(path), model
    try:
        config = get_config(name)
    except ConfigError:  # a path, which opening it says more of
        return Path(path), model
    from .convert.zoo import download, find_release

    return download(find_release(config), verify=verify).path, config


class Read(NamedTuple):
    """What was read of a file: the state dict under our names, its model, and what the anchors in it say, if any."""

    state: dict[str, Array]
    config: Config
    anchors: dict[str, Any] | None


def read_state(path: Path, model: str | Config | None = None, **options: Any) -> tuple[dict[str, Array], Config]:
    """(whole state dict under our names, its model's Config) of a `.safetensors`, `.pth` or `.pt` file: `read_file`."""
    read = read_file(path, model, **options)
    return read.state, read.config


def read_file(
    path: Path,
    model: str | Config | None = None,
    *,
    weights: str | None = None,
    naming: Naming | None = None,
    function: str | None = None,
    verify: bool = True,
    allow_nonfinite: bool = False,
) -> Read:
    """The whole state dict of a `.safetensors`, `.pth` or `.pt` file.

    The file may be another port's (`convert/namings`): which one, and of which model, its names and shapes say, where
    `naming` and `model` do not, and which function, as `load` has it; what was decided is warned of (PortWarning). An
    official model may have any number of classes. Of a training's checkpoint the moving averages are taken unless
    `weights` is "raw". Unless `verify` is False checksums are compared, and a file without any is warned of
    (UncheckedWarning). Raises CheckpointError for a file that is damaged, holds anything but tensors, lacks, adds or
    misshapes a single one, or holds NaN or infinity where not allowed; FunctionError for a function that is no choice.
    """
    stored = read_stored(path, weights=weights, verify=verify)
    config, anchors = None if model is None else get_config(model), None
    if stored.config is not None:
        _require_choice(False, function, path)
        if naming not in (None, EFFCONV):
            raise CheckpointError(
                f"{path}: effconv wrote it, under its own names and not {naming.port}'s",
                parameters={"names": EFFCONV.name},
            )
        if config is None:
            config = stored.config
        elif config in VARIANTS.values():
            own = stored.config
            config = replace(
                config,
                num_classes=own.num_classes,
                class_names=own.class_names,
                zero_padded_pool=own.zero_padded_pool,
            )
        elif not config.class_names and config.num_classes == stored.config.num_classes:
            config = replace(config, class_names=stored.config.class_names)  # a configuration need not repeat them
        state = stored.state
        require_state(state, config, str(path))
    else:
        state, config, anchors = _from_port(path, stored.state, config, naming, function)
    if not allow_nonfinite:
        require_finite(state, str(path))
    if verify and stored.checksums is None:
        message = f"{path}: has no checksums, so its weights are taken as they are; files effconv writes have them"
        warnings.warn(message, UncheckedWarning, stacklevel=4)
    return Read(state, config, anchors)


def _from_port(
    path: Path, stored: Mapping[str, Array], config: Config | None, naming: Naming | None, function: str | None
) -> Read:
    """Our state dict of a file that does not say what it is."""
    content = unwrapped(stored)
    shapes = {key: value.shape for key, value in content.tensors.items()}
    fit = recognise(shapes, str(path), config, naming)
    official = from_port(content.tensors, fit.naming._replace(epsilon=OURS_EPSILON), fit.config)
    require_state(official, fit.config, str(path))  # numbers of another type than float
    _require_choice(fit.naming.own_function, function, path)
    state, taken, how = official, fit.config, ""
    if fit.naming.own_function and function != "official":
        if function is None and identify_state(official, fit.config, str(path)).released:
            how = "the values are of a release of Google's, so it is the official function"
        else:
            state = from_port(content.tensors, fit.naming, fit.config)
            taken, how = _own_function(fit, str(path))
    notices = [*content.notices, *([how] if how else []), *([fit.naming.notice] if fit.naming.notice else [])]
    if fit.naming is not EFFCONV:
        notices.insert(0, f"converted from {fit.naming.port}'s names")
    if config is None or config.num_classes != fit.config.num_classes:
        notices.insert(0, f"taken as {fit.config.label}")
    if notices:
        warnings.warn(f"{path}: {'; '.join(notices)}", PortWarning, stacklevel=5)
    return Read(state, taken, content.anchors)


def _require_choice(there_is: bool, function: str | None, path: Path) -> None:
    if function is not None and not there_is:
        raise FunctionError(
            f"{path}: its function is known; only files of a port with another one leave a choice",
            parameters={"function": None},
        )


def _own_function(fit: Fit, source: str) -> tuple[Config, str]:
    """(the model that weights trained in a port's own network are of, what is to be said of its function).

    Raises CheckpointError where that is no model of ours.
    """
    if boxes := fit.naming.other_boxes(fit.config):
        raise CheckpointError(
            f"{source} ({fit.naming.port}): expected boxes coded as TensorFlow's (dy, dx, dh, dw), found as many "
            f"classes as {boxes}: another function; if its boxes are TensorFlow's, say that the function is official",
            parameters={"function": "official"},
        )
    said = [] if fit.config.zero_padded_pool or not fit.naming.zero_padded_pool else [OWN_POOL]
    if fit.naming.epsilon != OURS_EPSILON:
        said.append(OWN_EPSILON.format(fit.naming.epsilon))
    advice = "taken as its own; if they are Google's weights, say that the function is official"
    notice = "; ".join([*said, advice]) if said else ""
    return replace(fit.config, zero_padded_pool=fit.naming.zero_padded_pool), notice


def read_backbone(path: Path, config: Config, *, verify: bool = True) -> BackboneWeights:
    """The backbone of the model `config` in a file of an EfficientNet alone: the keys `backbone.…` of our state dict.

    `path` is a TF1 checkpoint, or a `.pth` or `.safetensors` of lukemelas/EfficientNet-PyTorch, timm or effconv. Raises
    EffconvError for a damaged file, and listing every tensor that does not fit.
    """
    if path.suffix not in CHECKPOINT_ENDINGS:
        return official_backbone(open_checkpoint(path, verify=verify), config)
    found = backbone_of(unwrapped(read_stored(path, verify=verify).state).tensors, config, str(path))
    require_finite(found.state, str(path))
    return found


def read_stored(path: Path, *, weights: str | None = None, verify: bool = True) -> StoredWeights:
    """What a `.safetensors`, `.pth` or `.pt` file holds, whatever model it is of; options as in `read_state`.

    Raises CheckpointError for a file that is damaged or holds anything but tensors, and where `weights` says which of a
    `.safetensors`, which has one set.
    """
    if path.suffix == ".safetensors":
        if weights:
            raise CheckpointError(
                f"{path}: holds one set of weights, so there are no {weights} ones to choose",
                parameters={"weights": None},
            )
        return read_weights(path, verify=verify)
    if path.suffix in PICKLE_ENDINGS:
        from .effdet_torch.pickled import read_pickle

        return StoredWeights(read_pickle(path, weights), None, None)
    raise CheckpointError(f"{path}: expected PyTorch weights, a file ending in .safetensors, .pth or .pt")


def _require_model(path: Path, model: str | Config | None) -> Config:
    if model is None:
        raise ConfigError(f"{path}: name the model it is of, such as d0", parameters={"model": "d0"})
    return get_config(model)
