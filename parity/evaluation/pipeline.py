"""From an encoded image to detections, with every choice ports make differently named: what a result depends on.

The defaults are the official evaluation. Each named choice is one step of the preprocessor or the postprocessor.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from ...effdet_torch.config import Config
from ...effdet_torch.postprocessing.anchors import legacy_anchors, official_anchors
from ...effdet_torch.postprocessing.candidates import Selection, TopPairs, best_class
from ...effdet_torch.postprocessing.nms import PerClass
from ...effdet_torch.postprocessing.postprocess import Postprocessor
from ...effdet_torch.postprocessing.suppression import Gaussian, Hard, Suppression
from ...effdet_torch.preprocessing.decode import decode, decode_with_pillow
from ...effdet_torch.preprocessing.preprocess import Decode, Preprocessor, Resize
from ...effdet_torch.preprocessing.resize import resize_antialiased, resize_bilinear

ANCHORS: Mapping[str, Callable[[Config], Tensor]] = {"official": official_anchors, "legacy": legacy_anchors}
CANDIDATES: Mapping[str, Callable[[Tensor], Selection]] = {"topk": TopPairs(5000), "argmax": best_class}
NMS: Mapping[str, Suppression] = {"soft": Gaussian(), "hard": Hard()}
IMAGE_DECODERS: Mapping[str, Decode] = {"tensorflow": decode, "pillow": decode_with_pillow}
RESIZES: Mapping[str, Resize] = {"tensorflow": resize_bilinear, "antialiased": resize_antialiased}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What may be chosen, by name; the defaults are the official evaluation's. See `records.CONDITIONS`."""

    anchors: str = "official"
    candidates: str = "topk"
    nms: str = "soft"
    score_threshold: float = 0.0  # 0: as the official code, which drops nothing that soft-NMS leaves above 0.001
    max_detections: int = 100
    image_decoder: str = "tensorflow"
    resize: str = "tensorflow"
    size: tuple[int, int] | None = None  # (height, width) of the input; None: the model's


class Pipeline(NamedTuple):
    """The steps around a network, and the settings they were made from."""

    config: Config  # image_size is the input's
    settings: Settings
    preprocess: Preprocessor
    postprocess: Postprocessor

    def conditions(self, weights: str | None, precision: str) -> dict[str, Any]:
        """What a result is measured under, in the words of the published records."""
        height, width = self.config.image_size
        named = {name: value for name, value in dataclasses.asdict(self.settings).items() if name != "size"}
        return {
            **named,
            "image_size": height if height == width else f"{height}x{width}",
            "weights": weights,
            "precision": precision,
        }


def build(config: Config, settings: Settings) -> Pipeline:
    """The pipeline of a model and settings."""
    config = dataclasses.replace(config, image_size=settings.size or config.image_size)
    suppression = NMS[settings.nms]
    if settings.score_threshold > 0:
        suppression = dataclasses.replace(suppression, score_threshold=settings.score_threshold)
    return Pipeline(
        config,
        settings,
        Preprocessor(config, decode=IMAGE_DECODERS[settings.image_decoder], resize=RESIZES[settings.resize]),
        Postprocessor(
            config=config,
            anchors=ANCHORS[settings.anchors],
            candidates=CANDIDATES[settings.candidates],
            nms=PerClass(suppression, settings.max_detections),
        ),
    )
