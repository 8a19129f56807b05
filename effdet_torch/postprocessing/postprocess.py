"""Raw model outputs to detections, as the official code computes them: decode, suppress, clip, pad, scale.

A `Postprocessor` is a value made of steps; another step in its place is another value (`dataclasses.replace`), which
is how ablations change one thing. `per_class`, `across_classes`, `combined` are the official combinations.

Source: google/automl `tf2/postprocess.py: pre_nms, postprocess_per_class, postprocess_global, postprocess_combined`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import EffconvError
from ..config import Config
from . import eigen
from .anchors import decode_boxes, feature_sizes, official_anchors
from .candidates import Selection, TopPairs, all_pairs, best_class, chosen_codes, flatten_levels
from .detections import Detections
from .nms import AcrossClasses, Candidates, Combined, PerClass
from .suppression import OFFICIAL, Suppression

OFFICIAL_PAIRS, OFFICIAL_NMS = TopPairs(5000), PerClass()  # of the official evaluation
OFFICIAL_COMBINED = Combined()
MORE = 8  # times as many pairs, where some do not decide what is kept


class PostprocessError(EffconvError):
    """Model outputs that no detections can be made from."""


def unclipped(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Boxes as they are: the official per-class path lets them reach beyond the image."""
    return boxes


def clip_boxes(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Boxes (..., 4) cut off at the edges of the input, `image_size` (height, width); padding of the input included."""
    limits = boxes.new_tensor([*image_size, *image_size])
    return torch.minimum(boxes.clamp(min=0), limits)


@dataclass(frozen=True, kw_only=True)
class Postprocessor:
    """The steps from a model's outputs to detections. `config.image_size` is the size the outputs were computed at."""

    config: Config
    anchors: Callable[[Config], Tensor] = official_anchors
    candidates: Callable[[Tensor], Selection] = OFFICIAL_PAIRS
    decode: Callable[[Tensor, Tensor], Tensor] = decode_boxes
    sigmoid: Callable[[Tensor], Tensor] = eigen.sigmoid
    nms: Callable[[Candidates], Detections] = OFFICIAL_NMS
    clip: Callable[[Tensor, tuple[int, int]], Tensor] = unclipped

    def __call__(
        self, class_logits: Sequence[Tensor], box_codes: Sequence[Tensor], image_scales: Tensor | None = None
    ) -> Detections:
        """Detections of a batch: the model's two lists, (B, A*C, h, w) and (B, A*4, h, w), lowest level first.

        `image_scales` (B,) are what the inputs' pixels are multiplied by to be the original images'; without them
        boxes stay in input pixels. Raises PostprocessError when shapes are not those of `config`, or when logits or
        the codes of candidates are NaN or infinite (logits of minus infinity are scores of 0).
        """
        self._check_shapes(class_logits, box_codes)
        codes = flatten_levels(box_codes, 4).float()
        classes, choose = self.config.num_classes, self.candidates
        selection = choose.of_levels(class_logits, classes) if isinstance(choose, TopPairs) else None
        if selection is None:
            return self.flat(flatten_levels(class_logits, classes).float(), codes, image_scales)
        return self.finish(self._chosen(selection, codes), image_scales)

    def flat(self, logits: Tensor, codes: Tensor, image_scales: Tensor | None = None) -> Detections:
        """The same from logits (B, N, C) and box codes (B, N, 4) float32, N in the anchors' order."""
        return self.finish(self.decoded(logits, codes), image_scales)

    def finish(self, candidates: Candidates, image_scales: Tensor | None = None) -> Detections:
        """Detections of candidates: suppressed, clipped and scaled."""
        detections = self.nms(candidates)
        detections = detections._replace(boxes=self.clip(detections.boxes, self.config.image_size))
        return detections if image_scales is None else detections.scaled(image_scales)

    def decoded(self, logits: Tensor, codes: Tensor) -> Candidates:
        """What suppression is given, from logits (B, N, C) and box codes (B, N, 4), N in the anchors' order."""
        return self._chosen(self.candidates(logits), codes)

    def _chosen(self, selection: Selection, codes: Tensor) -> Candidates:
        if selection.anchors.shape[1] <= codes.shape[1]:
            return self.selected(selection, chosen_codes(selection, codes))
        # Every anchor's box once, rather than one copy per class.
        anchors = self.anchors(self.config).to(codes.device).expand(codes.shape)
        return self._candidates(selection, selection.anchors, codes, anchors)

    def selected(self, selection: Selection, codes: Tensor) -> Candidates:
        """The same from pairs that were selected before, and the box codes (B, K, 4) of each."""
        box_of = torch.arange(codes.shape[1], device=codes.device).expand(selection.anchors.shape)
        anchors = self.anchors(self.config).to(codes.device)[selection.anchors]
        return self._candidates(selection, box_of, codes, anchors)

    def _candidates(self, selection: Selection, box_of: Tensor, codes: Tensor, anchors: Tensor) -> Candidates:
        _require_finite(selection.logits.clamp(min=torch.finfo(torch.float32).min), "class logits")
        _require_finite(codes, "box codes")
        return Candidates(self.decode(codes, anchors), self.sigmoid(selection.logits), selection.classes, box_of)

    def _check_shapes(self, class_logits: Sequence[Tensor], box_codes: Sequence[Tensor]) -> None:
        config = self.config
        for name, outputs, values in (("class logits", class_logits, config.num_classes), ("box codes", box_codes, 4)):
            expected = [(config.num_anchors * values, *size) for size in feature_sizes(config)]
            found = [tuple(level.shape[1:]) for level in outputs]
            if found != expected:
                raise PostprocessError(
                    f"{name} are {found} by level, expected {expected} for {config.name} at "
                    f"{config.image_size[0]} x {config.image_size[1]}: set the config's image_size to the input's"
                )


@dataclass(frozen=True, kw_only=True)
class CombinedPostprocessor(Postprocessor):
    """The same detections as with `all_pairs`, from the highest `first` pairs, or so many more, wherever those decide.

    Hard suppression never looks at a lower score: where the last box kept is above the lowest of the highest pairs, the
    millions below change nothing. Where it is not, or too few are kept, MORE times as many pairs are taken, as long as
    that is less work than to take all.
    """

    nms: Combined = OFFICIAL_COMBINED
    candidates: Callable[[Tensor], Selection] = all_pairs
    clip: Callable[[Tensor, tuple[int, int]], Tensor] = clip_boxes
    first: int = 5000

    def __call__(
        self, class_logits: Sequence[Tensor], box_codes: Sequence[Tensor], image_scales: Tensor | None = None
    ) -> Detections:
        if torch.compiler.is_compiling():  # whose result cannot decide what is computed
            return super().__call__(class_logits, box_codes, image_scales)
        self._check_shapes(class_logits, box_codes)
        every, count = sum(level.shape[1:].numel() for level in class_logits), self.first
        while count <= self.first or count * MORE < every:
            candidates = self._highest(count, class_logits, box_codes)
            found = self.finish(candidates, image_scales)
            lowest = candidates.scores.amin(dim=1)
            full = found.valid == self.nms.max_outputs
            decided = full & (found.scores[:, -1] > lowest) | (lowest <= self.nms.score_threshold)
            if bool(decided.all()):
                return found
            count *= MORE
        return super().__call__(class_logits, box_codes, image_scales)

    def _highest(self, count: int, class_logits: Sequence[Tensor], box_codes: Sequence[Tensor]) -> Candidates:
        """The `count` highest pairs of each image, in the order of `all_pairs`."""
        classes, highest = self.config.num_classes, TopPairs(count)
        selection = highest.of_levels(class_logits, classes)
        if selection is None:
            selection = highest(flatten_levels(class_logits, classes).float())
        # Of equal scores the lower index comes first.
        order = (selection.anchors * classes + selection.classes).argsort(dim=1)
        selection = Selection(*(torch.gather(each, 1, order) for each in selection))
        return self._chosen(selection, flatten_levels(box_codes, 4).float())


def _require_finite(values: Tensor, name: str) -> None:
    if torch.compiler.is_compiling():
        return  # an exported graph has no exceptions
    bad = ~torch.isfinite(values).flatten(1).all(dim=1)
    if bad.any():
        raise PostprocessError(
            f"{name} of image {int(bad.nonzero()[0])} of the batch hold NaN or infinity: check its input, "
            "then `effconv parity` names the first layer that goes wrong"
        )


def per_class(config: Config, suppression: Suppression = OFFICIAL, max_outputs: int = 100) -> Postprocessor:
    """How the official code evaluates: top 5000 pairs, suppression within classes, no clipping, zero padding."""
    return Postprocessor(config=config, nms=PerClass(suppression, max_outputs))


def across_classes(config: Config, suppression: Suppression = OFFICIAL, max_outputs: int = 100) -> Postprocessor:
    """Official global NMS: best class of each anchor, suppression regardless of class, clipped to the input."""
    return Postprocessor(
        config=config, candidates=best_class, nms=AcrossClasses(suppression, max_outputs), clip=clip_boxes
    )


def combined(config: Config, score_threshold: float = float("-inf"), max_outputs: int = 100) -> Postprocessor:
    """Official combined NMS (`tf.image.combined_non_max_suppression`): all pairs, hard, per class, clipped."""
    return CombinedPostprocessor(config=config, nms=Combined(score_threshold, max_outputs))
