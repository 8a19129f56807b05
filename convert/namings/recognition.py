"""Whose state dict is this, and of which model? Answered by its names and shapes."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from ...effdet_torch.config import OFFICIAL_NAMES, VARIANTS, Config
from ...errors import CheckpointError, first_names
from ..apply import IncompleteConversion
from ..rules import rules
from .effdet import EFFDET, EFFDET_LEVEL_FIRST
from .mmdetection import MMDETECTION
from .naming import Naming
from .paths import Modules
from .pytorch_tools import PYTORCH_TOOLS
from .tensors import expected, optional
from .zylo117 import ZYLO117

Shape = tuple[int, ...]
OFFICIAL = [VARIANTS[name] for name in OFFICIAL_NAMES]


def _own_modules(config: Config) -> Modules:
    return ((path, path) for path in dict.fromkeys(rule.torch.rpartition(".")[0] for rule in rules(config)))


EFFCONV = Naming(
    "effconv",
    "effconv",
    _own_modules,
    lambda config: iter(()),
    signs=("backbone.stem.conv.weight", "class_head.predict.pointwise.bias"),
    class_outputs="class_head.predict.pointwise.bias",
    models=lambda config: True,
)
NAMINGS: Mapping[str, Naming] = {
    naming.name: naming for naming in (EFFCONV, EFFDET, EFFDET_LEVEL_FIRST, ZYLO117, PYTORCH_TOOLS, MMDETECTION)
}
# (a key, or how a key begins, that only such files have; whose they are and why they are not converted)
STRANGERS = (
    ("neck.lateral_convs.", "toandaominh1997/EfficientDet.Pytorch, which is another network"),
    ("regressor.layers.", "signatrix/efficientdet, which is another network"),
    ("backbone.input_conv.0.", "NVIDIA's DeepLearningExamples, whose backbone pads symmetrically: another function"),
    ("WeightSharedConvolutionalBoxPredictor", "the TensorFlow Object Detection API, which trained other networks"),
)


def _of_a_stranger(source: str, whose: str) -> CheckpointError:
    return CheckpointError(f"{source}: a file of {whose}; it cannot be converted, only its own network can run it")


def _require_own(naming: Naming, shapes: Mapping[str, Shape], source: str) -> None:
    if whose := naming.stranger(shapes):
        raise _of_a_stranger(source, whose)


class Fit(NamedTuple):
    """A naming and a model that a file's every name and shape agree with."""

    naming: Naming
    config: Config


def naming_of(shapes: Mapping[str, Shape], source: str) -> Naming:
    """The naming whose signs a file has.

    Raises CheckpointError naming both for two, what is known for none, and whose other network it is where names tell.
    """
    for start, whose in STRANGERS:  # first: some of them have another port's heads
        if any(key.startswith(start) for key in shapes):
            raise _of_a_stranger(source, whose)
    found = [naming for naming in NAMINGS.values() if any(sign in shapes for sign in naming.signs)]
    if len(found) == 1:
        _require_own(found[0], shapes, source)
        return found[0]
    if found:
        raise CheckpointError(
            f"{source}: its names are {' and '.join(naming.port for naming in found)}'s; say which it is of",
            parameters={"names": found[0].name},
        )
    known = ", ".join(naming.port for naming in NAMINGS.values())
    raise CheckpointError(
        f"{source}: names of no kind that effconv knows ({known}); it begins with {first_names(list(shapes))}"
    )


def fits(shapes: Mapping[str, Shape], naming: Naming) -> list[Config]:
    """The official models, with as many classes as the file has, that its every name and shape agree with."""
    candidates = (with_classes_of(shapes, naming, config) for config in OFFICIAL if naming.models(config))
    return [config for config in candidates if config and not gap(shapes, naming, config)]


def with_classes_of(shapes: Mapping[str, Shape], naming: Naming, config: Config) -> Config | None:
    """`config` with the number of classes that a file's class outputs have; None where that is no whole number."""
    outputs = shapes.get(naming.class_outputs, ())
    classes, rest = divmod(outputs[0] if len(outputs) == 1 else 0, config.num_anchors)
    return None if rest or not classes else dataclasses.replace(config, num_classes=classes)


def recognise(
    shapes: Mapping[str, Shape], source: str, config: Config | None = None, naming: Naming | None = None
) -> Fit:
    """Whose file it is and of which model; `config` and `naming`, where they are given, are what it must be.

    An official `config` is taken with as many classes as the file has. D6 and D7 have the same tensors and differ in
    image size and anchors: a file that fits both is refused unless `config` says which. Raises CheckpointError.
    """
    naming = naming or naming_of(shapes, source)
    if not any(sign in shapes for sign in naming.signs):
        raise CheckpointError(f"{source}: not of {naming.port}, whose files have {' and '.join(naming.signs)}")
    _require_own(naming, shapes, source)
    if config is not None:
        if not naming.models(config):
            raise CheckpointError(f"{source}: {naming.port} has no {config.name}")
        if config in VARIANTS.values():
            config = with_classes_of(shapes, naming, config) or config
        if gap(shapes, naming, config):
            gaps, others = differences(shapes, naming, config), fits(shapes, naming)
            raise IncompleteConversion(f"{source} ({naming.port})", config, gaps, others)
        return Fit(naming, config)
    models = fits(shapes, naming)
    if len(models) > 1:
        names = " and ".join(model.label for model in models)
        raise CheckpointError(
            f"{source}: its tensors are those of {names}; say which model it is", parameters={"model": None}
        )
    if not models:
        own = "if it is a model of your own, name its configuration"
        raise CheckpointError(
            f"{source}: {naming.port}'s names, {nearest(shapes, naming)}; {own}", parameters={"model": "mine.json"}
        )
    return Fit(naming, models[0])


def nearest(shapes: Mapping[str, Shape], naming: Naming) -> str:
    """Which official model a file is nearest to, and in what it differs, in words."""
    models = [with_classes_of(shapes, naming, config) or config for config in OFFICIAL if naming.models(config)]
    best = min(models, key=lambda config: len(gap(shapes, naming, config)))
    differing = "; ".join(
        f"{len(names)} {what}: {first_names(names)}"
        for what, names in differences(shapes, naming, best).items()
        if names
    )
    return f"but no official model's tensors; nearest is {best.name}: {differing}"


def gap(shapes: Mapping[str, Shape], naming: Naming, config: Config) -> set[str]:
    """The keys that are the file's or the model's alone, or differ in shape."""
    wanted = expected(naming, config)
    wanted |= {key: shape for key, shape in optional(naming, config).items() if key in shapes}
    return {key for key, _ in set(shapes.items()) ^ set(wanted.items())}


def differences(shapes: Mapping[str, Shape], naming: Naming, config: Config) -> dict[str, list[str]]:
    """{in what a file's names and shapes differ from a model's: which}."""
    wanted, differing = expected(naming, config), sorted(gap(shapes, naming, config))
    return {
        "missing from the file": [key for key in differing if key not in shapes],
        "unknown to the model": [key for key in differing if key in shapes and key not in wanted],
        "of another shape": [
            f"{key} (expected {list(wanted[key])}, found {list(shapes[key])})"
            for key in differing
            if key in shapes and key in wanted
        ],
    }
