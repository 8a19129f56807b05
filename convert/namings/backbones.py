"""EfficientNet backbones alone, as classifiers' files have them: whose names, and our tensors of them.

What a classifier has beside the backbone, its head, is left out. Source: google/automl `main.py: --backbone_ckpt`
(TensorFlow), lukemelas/EfficientNet-PyTorch `model.py`, timm `models/efficientnet.py`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ...effdet_torch.architecture import blocks
from ...effdet_torch.config import Config
from ...errors import CheckpointError
from ..apply import EMA_SUFFIX, IncompleteConversion
from ..layout import Array
from ..rules import rules
from ..sources import Checkpoint
from .effdet import EFFDET
from .paths import Modules
from .zylo117 import BLOCK

BACKBONE = "backbone."


def _lukemelas(config: Config) -> Modules:
    yield "backbone.stem.conv", "_conv_stem"
    yield "backbone.stem.norm", "_bn0"
    for index in range(len(blocks(config))):
        for ours, theirs in BLOCK.items():
            yield f"backbone.blocks.{index}.{ours}", f"_blocks.{index}.{theirs.removesuffix('.conv')}"


def _timm(config: Config) -> Modules:
    # effdet's backbones are timm's own classes.
    return (
        (ours, theirs.removeprefix(BACKBONE)) for ours, theirs in EFFDET.modules(config) if ours.startswith(BACKBONE)
    )


def _effconv(config: Config) -> Modules:
    paths = dict.fromkeys(rule.torch.rpartition(".")[0] for rule in rules(config))
    return ((path, path) for path in paths if path.startswith(BACKBONE))


class Classifier(NamedTuple):
    """A project whose files are classifiers: its sign, and how what is no backbone begins."""

    port: str
    modules: Callable[[Config], Modules]
    sign: str
    left_out: tuple[str, ...]


CLASSIFIERS = (
    Classifier("lukemelas/EfficientNet-PyTorch", _lukemelas, "_conv_stem.weight", ("_conv_head.", "_bn1.", "_fc.")),
    Classifier("timm", _timm, "conv_stem.weight", ("conv_head.", "bn2.", "classifier.")),
    Classifier("effconv", _effconv, "backbone.stem.conv.weight", ("bifpn.", "class_head.", "box_head.")),
)


class BackboneWeights(NamedTuple):
    """Our tensors of a backbone, whose file it was, and what of it is left out."""

    state: dict[str, Array]
    port: str
    left_out: list[str]


def backbone_of(tensors: Mapping[str, Array], config: Config, source: str) -> BackboneWeights:
    """The backbone of the model `config` in a classifier's tensors.

    Raises CheckpointError for names of no kind that is known, IncompleteConversion listing every gap.
    """
    found = next((classifier for classifier in CLASSIFIERS if classifier.sign in tensors), None)
    if found is None:
        signs = ", ".join(f"{classifier.sign} ({classifier.port})" for classifier in CLASSIFIERS)
        raise CheckpointError(f"{source}: no EfficientNet that effconv knows; expected one of {signs}")
    modules = dict(found.modules(config))
    wanted = {}
    for rule in rules(config):
        path, _, tensor = rule.torch.rpartition(".")
        if path.startswith(BACKBONE):
            wanted[rule.torch] = f"{modules[path]}.{tensor}", rule.layout.torch_shape(rule.shape)
    theirs = dict(wanted.values())
    left_out = [key for key in tensors if key.startswith(found.left_out) and key not in theirs]
    gaps = {
        "missing from the file": [key for key in theirs if key not in tensors],
        "unknown to the model": [key for key in tensors if key not in theirs and key not in left_out],
        "of another shape or type": [
            f"{key} (expected float32 {list(shape)}, found {tensors[key].dtype.name} {list(tensors[key].shape)})"
            for key, shape in theirs.items()
            if key in tensors and (tensors[key].shape, tensors[key].dtype.name) != (shape, "float32")
        ],
    }
    if any(gaps.values()):
        raise IncompleteConversion(f"{source} ({found.port}'s {config.backbone})", config, gaps)
    return BackboneWeights({ours: tensors[key] for ours, (key, _) in wanted.items()}, found.port, left_out)


def official_backbone(checkpoint: Checkpoint, config: Config) -> BackboneWeights:
    """The backbone in a TF1 checkpoint of an EfficientNet, its moving averages where it has them.

    Everything else in it is left out, as the official training does. Raises IncompleteConversion listing every variable
    of the backbone that is missing or of another shape.
    """
    variables = checkpoint.variables
    table = [rule for rule in rules(config) if rule.torch.startswith(BACKBONE)]
    averaged = all(rule.tf + EMA_SUFFIX in variables for rule in table)
    names = {rule.torch: (rule.tf + EMA_SUFFIX if averaged else rule.tf, rule) for rule in table}
    gaps = {
        "missing from the file": [name for name, _ in names.values() if name not in variables],
        "of another shape": [
            f"{name} (expected {list(rule.shape)}, found {list(variables[name].shape)})"
            for name, rule in names.values()
            if name in variables and variables[name].shape != rule.shape
        ],
    }
    if any(gaps.values()):
        raise IncompleteConversion(f"{checkpoint.path} (as {config.backbone})", config, gaps)
    state = {
        ours: np.array(rule.layout.to_torch(checkpoint.read(name)), order="C") for ours, (name, rule) in names.items()
    }
    taken = {name for name, _ in names.values()}
    return BackboneWeights(state, "TensorFlow", [name for name in variables if name not in taken])
