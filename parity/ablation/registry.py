"""Every detail of a port that can be ablated, by name: what it changes, at which stage, and what is published about it.

A change is made from outside, to a `Setup` of model and pipeline; neither has flags for it. Changes of the network are
those of `mistakes/network.py`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...effdet_torch.postprocessing.anchors import legacy_anchors
from ...effdet_torch.postprocessing.candidates import TopPairs, best_class
from ...effdet_torch.postprocessing.nms import AcrossClasses, PerClass
from ...effdet_torch.postprocessing.postprocess import unclipped
from ...effdet_torch.postprocessing.suppression import Gaussian, Hard
from ...effdet_torch.preprocessing.decode import decode_with_pillow
from ...effdet_torch.preprocessing.resize import resize_antialiased
from ..copying import copied
from ..mistakes.network import CHANGES, Change, changed
from ..mistakes.pipeline import (
    Categories,
    Setup,
    clipped_first,
    contiguous,
    decode_clamped,
    off_by_one,
    padded_black,
    resize_rounded,
    resized_to,
    with_raw_weights,
)

STAGES = ("input", "weights", "network", "decode")


class Ablation(NamedTuple):
    """One change of a setup. `published` names a record's variant in results/reference/pytorch-tools.json."""

    name: str
    stage: str  # of STAGES: nothing before it is changed
    summary: str
    apply: Callable[[Setup], Setup]
    published: str = ""


def _preprocess(**steps: Any) -> Callable[[Setup], Setup]:
    def apply(setup: Setup) -> Setup:
        changed_steps = dataclasses.replace(setup.pipeline.preprocess, **steps)
        return dataclasses.replace(setup, pipeline=setup.pipeline._replace(preprocess=changed_steps))

    return apply


def _postprocess(**steps: Any) -> Callable[[Setup], Setup]:
    def apply(setup: Setup) -> Setup:
        changed_steps = dataclasses.replace(setup.pipeline.postprocess, **steps)
        return dataclasses.replace(setup, pipeline=setup.pipeline._replace(postprocess=changed_steps))

    return apply


def _network(change: Change) -> Callable[[Setup], Setup]:
    return lambda setup: dataclasses.replace(setup, model=changed(setup.model, change))


def _weights(edit: Callable[[Tensor], Tensor]) -> Callable[[Setup], Setup]:
    """Every parameter of two dimensions and more replaced by what is left of it in another precision."""

    def apply(setup: Setup) -> Setup:
        model = copied(setup.model)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.copy_(edit(parameter))
        return dataclasses.replace(setup, model=model)

    return apply


def _int8(weight: Tensor) -> Tensor:
    """As eight bits per value and a scale per output channel hold it."""
    scale = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True) / 127
    return (weight / scale.clamp(min=torch.finfo(weight.dtype).tiny)).round() * scale


def _through(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda weight: weight.to(dtype).to(weight.dtype)


def _relabelled(categories: Categories) -> Callable[[Setup], Setup]:
    return lambda setup: dataclasses.replace(setup, categories=categories)


def _nms(nms: Any) -> Callable[[Setup], Setup]:
    return _postprocess(nms=nms)


def _scored(threshold: float) -> Callable[[Setup], Setup]:
    return _nms(PerClass(Gaussian(score_threshold=threshold)))


def _hard(overlap: float) -> Callable[[Setup], Setup]:
    return _nms(PerClass(Hard(overlap)))


PUBLISHED_NETWORK = {
    "no-same-maxpool": "B1 without SAME max-pool",
}
_ROWS = (
    Ablation("pillow-decode", "input", "images decoded by Pillow", _preprocess(decode=decode_with_pillow)),
    Ablation(
        "antialiased-resize",
        "input",
        "images resized by Pillow's antialiasing filter, in whole grey levels",
        _preprocess(resize=resize_antialiased),
    ),
    Ablation(
        "rounded-resize",
        "input",
        "images resized before normalising, in whole grey levels",
        _preprocess(resize=resize_rounded),
    ),
    Ablation("pad-black", "input", "images padded before normalising: with black, not the mean colour", padded_black),
    Ablation("smaller-input", "input", "input sides a quarter smaller", resized_to(0.75)),
    Ablation("larger-input", "input", "input sides a quarter larger", resized_to(1.25)),
    Ablation("raw-weights", "weights", "weights as training left them, not their moving averages", with_raw_weights),
    Ablation(
        "bfloat16-weights", "weights", "kernels rounded to bfloat16", _weights(lambda w: w.bfloat16().to(w.dtype))
    ),
    Ablation("float16-weights", "weights", "kernels rounded to float16", _weights(lambda w: w.half().to(w.dtype))),
    Ablation("int8-weights", "weights", "kernels in eight bits, a scale per output channel", _weights(_int8)),
    *(
        Ablation(name, "network", change.summary, _network(change), PUBLISHED_NETWORK.get(name, ""))
        for name, change in CHANGES.items()
    ),
    Ablation(
        "no-same-at-all",
        "network",
        "symmetric padding in convolutions and max-pools",
        lambda setup: _network(CHANGES["no-same-conv"])(_network(CHANGES["no-same-maxpool"])(setup)),
        "B1 without SAME max-pool and SAME conv",
    ),
    Ablation(
        "legacy-anchors",
        "decode",
        "aspects 1.4 and 0.7, of before September 2020",
        _postprocess(anchors=legacy_anchors),
    ),
    Ablation(
        "no-clip",
        "decode",
        "boxes not clipped: the official evaluation itself",
        _postprocess(clip=unclipped),
        "B1 at the .392 baseline, boxes not clipped before NMS",
    ),
    Ablation("clip", "decode", "boxes clipped to the input before suppression", clipped_first),
    Ablation("clamped-sizes", "decode", "size codes limited to log(1000 / 16)", _postprocess(decode=decode_clamped)),
    *(
        Ablation(
            f"min-score-{score}",
            "decode",
            f"detections scored {score} or less dropped",
            _scored(score),
            "B1 at the .392 baseline, predictions of low confidence removed" if score == 0.01 else "",
        )
        for score in (0.001, 0.01, 0.05, 0.2, 0.4)
    ),
    *(
        Ablation(
            f"top-{count}", "decode", f"{count} candidates instead of 5000", _postprocess(candidates=TopPairs(count))
        )
        for count in (1000, 3000)
    ),
    Ablation("argmax", "decode", "the best class of each anchor alone", _postprocess(candidates=best_class)),
    *(
        Ablation(
            f"hard-nms-{overlap}",
            "decode",
            f"hard suppression above an IoU of {overlap}",
            _hard(overlap),
        )
        for overlap in (0.3, 0.5, 0.7)
    ),
    Ablation("class-agnostic-nms", "decode", "boxes of all classes suppress one another", _nms(AcrossClasses())),
    *(
        Ablation(f"max-detections-{count}", "decode", f"{count} detections an image", _nms(PerClass(max_outputs=count)))
        for count in (10, 300)
    ),
    Ablation("contiguous-categories", "decode", "categories numbered without the gaps", _relabelled(contiguous)),
    Ablation("shifted-categories", "decode", "the first channel taken for the background", _relabelled(off_by_one)),
)
ABLATIONS: Mapping[str, Ablation] = {ablation.name: ablation for ablation in _ROWS}


def fitting(setup: Setup) -> list[Ablation]:
    """Those whose change a setup's model has what it takes for, stage by stage."""
    config = setup.model.config
    found = [each for each in _ROWS if each.name not in CHANGES or CHANGES[each.name].fits(config)]
    if setup.raw is None:
        found.remove(ABLATIONS["raw-weights"])
    return sorted(found, key=lambda each: STAGES.index(each.stage))
