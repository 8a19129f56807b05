"""What distinguishes one EfficientDet from another: a frozen Config, and one row per official model.

Values are those of google/automl `efficientdet/hparams_config.py` and `backbone/efficientnet_builder.py`. This file
imports neither torch nor numpy, so that converting weights stays quick.
"""

import dataclasses
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import EffconvError
from ..strict_json import as_read

FUSIONS = ("fastattn", "sum")
ACTIVATIONS = ("swish", "relu6")
MOST_CLASSES = 100_000
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


class ConfigError(EffconvError):
    """A model name or a model configuration that effconv does not know or cannot build."""


class Stage(NamedTuple):
    """A run of MBConv blocks before width and depth scaling; only the first block has the stride."""

    repeats: int
    kernel: int
    stride: int
    expand_ratio: int
    input_filters: int
    output_filters: int


EFFICIENTNET_STAGES = (
    Stage(1, 3, 1, 1, 32, 16),
    Stage(2, 3, 2, 6, 16, 24),
    Stage(2, 5, 2, 6, 24, 40),
    Stage(3, 3, 2, 6, 40, 80),
    Stage(3, 5, 1, 6, 80, 112),
    Stage(4, 5, 2, 6, 112, 192),
    Stage(1, 3, 1, 6, 192, 320),
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that shapes an EfficientDet: its variables, its computation and its input.

    `image_size` is (height, width) in pixels. `mean` and `std` are per RGB channel on the 0..255 scale.
    `unit_range` marks AdvProp models, whose input is scaled to [-1, 1] after padding instead.
    """

    name: str
    backbone: str  # TensorFlow's variable scope of the backbone
    width: float
    depth: float
    image_size: tuple[int, int]
    fpn_channels: int
    fpn_cells: int
    head_repeats: int
    squeeze_excite: bool = True
    scale_ends: bool = True  # False for Lite: the stem and the first and last stage's repeats stay unscaled
    stages: tuple[Stage, ...] = EFFICIENTNET_STAGES
    activation: str = "swish"
    fusion: str = "fastattn"
    min_level: int = 3
    max_level: int = 7
    num_classes: int = 90
    num_scales: int = 3
    aspect_ratios: tuple[float, ...] = (1.0, 2.0, 0.5)
    anchor_scale: float = 4.0
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    unit_range: bool = False
    class_names: tuple[str, ...] = ()  # of category ids 1, 2, ..., "" for an unused one; empty: COCO's, or numbers
    zero_padded_pool: bool = False  # as some ports' networks do it; the official one pads with minus infinity
    residual_heads: bool = False  # heads add each repeat's input but the first's: trained with `survival_prob`

    @property
    def num_anchors(self) -> int:
        """Anchors per position: scales times aspect ratios."""
        return self.num_scales * len(self.aspect_ratios)

    @property
    def label(self) -> str:
        """The name, and what is not the official model's: the number of classes, max-pooling."""
        official = VARIANTS.get(self.name)
        other = official is not None and official.num_classes != self.num_classes
        named = f"{self.name} with {self.num_classes} classes" if other else self.name
        return f"{named}, its max-pooling padded with zeros" if self.zero_padded_pool else named

    @property
    def levels(self) -> range:
        """Reduction levels the heads run on; level L has stride 2**L."""
        return range(self.min_level, self.max_level + 1)


# (backbone, image size, BiFPN channels, BiFPN cells, head repeats, other fields)
_ROWS: dict[str, tuple[str, int, int, int, int, dict[str, Any]]] = {
    "d0": ("b0", 512, 64, 3, 3, {}),
    "d1": ("b1", 640, 88, 4, 3, {}),
    "d2": ("b2", 768, 112, 5, 3, {}),
    "d3": ("b3", 896, 160, 6, 4, {}),
    "d4": ("b4", 1024, 224, 7, 4, {}),
    "d5": ("b5", 1280, 288, 7, 4, {}),
    "d6": ("b6", 1280, 384, 8, 5, {"fusion": "sum"}),
    "d7": ("b6", 1536, 384, 8, 5, {"fusion": "sum", "anchor_scale": 5.0}),
    "d7x": ("b7", 1536, 384, 8, 5, {"fusion": "sum", "max_level": 8}),
    "lite0": ("lite0", 320, 64, 3, 3, {"anchor_scale": 3.0}),
    "lite1": ("lite1", 384, 88, 4, 3, {"anchor_scale": 3.0}),
    "lite2": ("lite2", 448, 112, 5, 3, {"anchor_scale": 3.0}),
    "lite3": ("lite3", 512, 160, 6, 4, {}),
    "lite3x": ("lite3", 640, 200, 6, 4, {"anchor_scale": 3.0}),
    "lite4": ("lite4", 640, 224, 7, 4, {}),
}
# EfficientNet's (width, depth) coefficients; Lite n scales as B n does.
_SCALES = {
    "0": (1.0, 1.0),
    "1": (1.0, 1.1),
    "2": (1.1, 1.2),
    "3": (1.2, 1.4),
    "4": (1.4, 1.8),
    "5": (1.6, 2.2),
    "6": (1.8, 2.6),
    "7": (2.0, 3.1),
}
_LITE: dict[str, Any] = {
    "squeeze_excite": False,
    "scale_ends": False,
    "activation": "relu6",
    "fusion": "sum",
    "mean": (127.0, 127.0, 127.0),
    "std": (128.0, 128.0, 128.0),
}


def _variants() -> dict[str, Config]:
    variants = {}
    for short, (backbone, size, channels, cells, repeats, exceptions) in _ROWS.items():
        width, depth = _SCALES[backbone[-1]]
        variants[short] = Config(
            name=f"efficientdet-{short}",
            backbone=f"efficientnet-{backbone}",
            width=width,
            depth=depth,
            image_size=(size, size),
            fpn_channels=channels,
            fpn_cells=cells,
            head_repeats=repeats,
            **({**_LITE, **exceptions} if backbone.startswith("lite") else exceptions),
        )
    for short in ("d2", "d3", "d4", "d5", "d6"):
        base = variants[short]
        variants[f"{short}-640"] = dataclasses.replace(base, name=f"{base.name}-640", image_size=(640, 640))
    for short in ("d0", "d1", "d2", "d3", "d4", "d5"):
        base = variants[short]
        variants[f"{short}-advprop"] = dataclasses.replace(base, name=f"{base.name}-advprop", unit_range=True)
    return {config.name: config for config in variants.values()}


VARIANTS: dict[str, Config] = _variants()
OFFICIAL_NAMES = tuple(
    f"efficientdet-{short}" for short in _ROWS
)  # the 15 architectures; the rest share their variables


def get_config(model: str | Config) -> Config:
    """The Config that `model` names: an official name or alias (`b1` = `d1` = `efficientdet_d1`), a path to a JSON
    configuration (a file name that ends in .json), or a Config itself.

    Raises ConfigError for an unknown name (with the nearest known one) and for a configuration that cannot be read.
    """
    if isinstance(model, Config):
        return model
    if model.endswith(".json"):
        return read_config(Path(model))
    name = model.strip().lower().replace("_", "-").removeprefix("efficientdet-")
    if len(name) > 1 and name[0] == "b" and name[1].isdigit():
        name = "d" + name[1:]
    config = VARIANTS.get(f"efficientdet-{name}")
    if config is None:
        shorts = [known.removeprefix("efficientdet-") for known in VARIANTS]
        nearest = difflib.get_close_matches(name, shorts, n=1, cutoff=0.4)
        hint = f"did you mean {nearest[0]}? " if nearest else ""
        raise ConfigError(f"unknown model {model!r}: {hint}`effconv models` lists them; a custom one is a .json file")
    return config


def read_config(path: Path) -> Config:
    """Read a custom model's configuration from JSON. Raises ConfigError when it is missing or malformed."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not a readable model configuration ({error})") from error
    return config_from_dict(data, source=str(path))


def config_to_dict(config: Config) -> dict[str, Any]:
    """Plain values for JSON; `config_from_dict` reads them back to an equal Config."""
    return as_read(dataclasses.asdict(config))  # type: ignore[no-any-return]


def config_from_dict(data: Any, source: str) -> Config:
    """Build and check a Config from plain values. `source` names where they came from, for the error.

    Raises ConfigError that lists unknown and missing fields, or names the first field out of range.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{source}: a model configuration is a JSON object, found {type(data).__name__}")
    fields = {field.name: field for field in dataclasses.fields(Config)}
    required = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    unknown, missing = sorted(set(data) - set(fields)), sorted(required - set(data))
    if unknown or missing:
        raise ConfigError(f"{source}: model configuration has unknown fields {unknown} and lacks {missing}")
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    try:
        if "stages" in values:
            values["stages"] = tuple(Stage(*stage) for stage in values["stages"])
        config = Config(**values)
        _check(config)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{source}: model configuration: {error}") from error
    return config


def require_classes(number: object) -> None:
    """Raises ConfigError for what is no number of classes that a model can have: an integer in 1..MOST_CLASSES."""
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= MOST_CLASSES:
        raise ConfigError(f"num_classes must be an integer in 1..{MOST_CLASSES}, found {number!r}")


def _check(config: Config) -> None:
    def require(field: str, value: Any, low: float, high: float, kind: type = int) -> None:
        number = isinstance(value, (int, kind)) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise ValueError(f"{field} must be {kind.__name__} in {low}..{high}, found {value!r}")

    def choose(field: str, value: Any, choices: tuple[Any, ...]) -> None:
        if value not in choices:
            raise ValueError(f"{field} must be one of {choices}, found {value!r}")

    for field in ("name", "backbone"):
        value = getattr(config, field)
        if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= 100 or "/" in value:
            raise ValueError(f"{field} must be a short name without '/', found {value!r}")
    choose("activation", config.activation, ACTIVATIONS)
    choose("fusion", config.fusion, FUSIONS)
    for field in ("squeeze_excite", "scale_ends", "unit_range", "zero_padded_pool", "residual_heads"):
        choose(field, getattr(config, field), (True, False))
    for field, length in (("image_size", 2), ("mean", 3), ("std", 3)):
        if not isinstance(getattr(config, field), tuple) or len(getattr(config, field)) != length:
            raise ValueError(f"{field} must hold {length} numbers, found {getattr(config, field)!r}")
    if not all(isinstance(name, str) and name.isprintable() and len(name) <= 100 for name in config.class_names):
        raise ValueError(f"class_names must be short names, found {config.class_names!r}")
    if len(config.class_names) not in (0, config.num_classes):
        raise ValueError(f"class_names must be {config.num_classes} or none, found {len(config.class_names)}")
    for field, high in (("fpn_channels", 4096), ("fpn_cells", 64), ("head_repeats", 64), ("num_classes", MOST_CLASSES)):
        require(field, getattr(config, field), 1, high)
    for field in ("width", "depth"):
        require(field, getattr(config, field), 0.01, 100, float)
    for side in config.image_size:
        require("image_size", side, 1, 65536)
    require("min_level", config.min_level, 1, 5)
    require("max_level", config.max_level, config.min_level, 12)
    require("num_scales", config.num_scales, 1, 64)
    require("anchor_scale", config.anchor_scale, 1e-3, 1e6, float)
    if not isinstance(config.aspect_ratios, tuple) or not 1 <= len(config.aspect_ratios) <= 64:
        raise ValueError(f"aspect_ratios must be a list of numbers, found {config.aspect_ratios!r}")
    for ratio in config.aspect_ratios:
        require("aspect_ratios", ratio, 1e-3, 1e3, float)
    for number in (*config.mean, *config.std):
        require("mean and std", number, -1e4, 1e4, float)
    if not 1 <= len(config.stages) <= 64:
        raise ValueError(f"stages must hold 1 to 64 rows, found {len(config.stages)}")
    for stage in config.stages:
        for field, value, high in zip(Stage._fields, stage, (256, 31, 2, 64, 65536, 65536), strict=True):
            require(f"stages: {field}", value, 1, high)
