"""Recorded post-processing runs of the official code (`post_*.npz`): their inputs, their settings as ours, results."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from effconv.effdet_torch.config import Config, get_config
from effconv.effdet_torch.postprocessing.candidates import TopPairs, best_class
from effconv.effdet_torch.postprocessing.nms import AcrossClasses, Candidates, PerClass
from effconv.effdet_torch.postprocessing.numpy_nms import (
    NumpyPerClass,
    PixelDistance,
    PixelGaussian,
    PixelHard,
    PixelLinear,
)
from effconv.effdet_torch.postprocessing.postprocess import Postprocessor, across_classes, combined, per_class
from effconv.effdet_torch.postprocessing.suppression import Gaussian, Hard, Suppression
from effconv.parity.traces.golden import Golden

PIXEL = {"gaussian": PixelGaussian(), "hard": PixelHard(), "diou": PixelDistance(), "linear": PixelLinear()}
SHOWN = (("boxes", 4), ("classes", 1))
RECORDS = (
    "synth_small",
    "synth_nonsquare_l8",
    "synth_d0_512",
    "e2e_tiny-swish_128x160",
    "e2e_tiny-sum8_256x256",
    "e2e_tiny-lite_128x128",
    "e2e_efficientdet-d0_512x512",  # its activations are recorded in part, its 5000 candidates whole
)


class Record:
    """One file: `runs` {name: settings}, arrays by key."""

    def __init__(self, shared: Path, name: str):
        self.name, self._folder = name, shared / "goldens"
        with np.load(self._folder / f"post_{name}.npz", allow_pickle=False) as archive:
            self.arrays = {key: archive[key] for key in archive.files}
        meta = json.loads(str(self.arrays["meta"]))
        self.runs: dict[str, dict[str, Any]] = meta["runs"]
        fields = meta["config"]
        self.config: Config = dataclasses.replace(
            get_config("d0"),
            image_size=tuple(fields["image_size"]),
            aspect_ratios=tuple(fields["aspect_ratios"]),
            **{key: fields[key] for key in ("num_classes", "min_level", "max_level", "num_scales", "anchor_scale")},
        )
        self.scales = torch.from_numpy(self.arrays["image_scales"])
        self.image_ids = [int(number) for number in self.arrays["image_ids"]]

    @property
    def whole(self) -> bool:
        return self.name != "e2e_efficientdet-d0_512x512"

    def outputs(self) -> tuple[list[Tensor], list[Tensor]]:
        """The model outputs the run was made from: (2, A*C, h, w) and (2, A*4, h, w) per level."""
        pairs = [self._level(level) for level in self.config.levels]
        logits, codes = zip(*pairs, strict=True)
        return [nchw(array) for array in logits], [nchw(array) for array in codes]

    def _level(self, level: int) -> tuple[np.ndarray, np.ndarray]:
        if "seed" not in self.arrays:
            golden = Golden(self._folder / f"act_{self.name.removeprefix('e2e_')}.npz")
            logits, codes = golden[f"class_outputs/{level}"], golden[f"box_outputs/{level}"]
            assert logits.step == codes.step == 1
            return logits.sample.reshape(logits.shape), codes.sample.reshape(codes.shape)
        seed, anchors = int(self.arrays["seed"]) + 10 * level, self.config.num_anchors
        size = tuple(-(-side // 2**level) for side in self.config.image_size)
        logits = np.random.RandomState(seed).standard_normal((2, *size, anchors * self.config.num_classes)) * 1.5 - 4.6
        codes = np.random.RandomState(seed + 1).standard_normal((2, *size, anchors * 4)) * 0.4
        return logits.astype(np.float32), codes.astype(np.float32)

    def candidates(self) -> Candidates:
        """The recorded 5000 candidates, in their canonical order: by logit, then by flat index."""
        boxes, scores, classes = (
            torch.from_numpy(self.arrays[f"prenms5000/{key}"]) for key in ("boxes", "scores", "class")
        )
        return Candidates(boxes, scores, classes.long(), torch.arange(scores.shape[1]).expand(scores.shape))

    def candidates_as_run(self, run: str) -> Candidates:
        """The same, but equal scores in the order that the recorded result shows.

        TensorFlow's unsorted top_k gave the run its candidates in an order that is neither defined nor recorded. It
        matters where scores tie: D0's noise image has 33 of exactly 1.0.
        """
        candidates = self.candidates()
        boxes = self.postprocessor(run).clip(candidates.boxes, self.config.image_size) * self.scales[:, None, None]
        orders = []
        for image in range(len(boxes)):
            shown = np.concatenate([self.arrays[f"{run}/{key}"][image].reshape(-1, width) for key, width in SHOWN], 1)
            places = {row.tobytes(): place for place, row in reversed(list(enumerate(shown)))}
            rows = np.concatenate([boxes[image].numpy(), candidates.classes[image, :, None].numpy() + 1.0], axis=1)
            place = [places.get(row.tobytes(), len(shown)) for row in rows.astype(np.float32)]
            orders.append(np.lexsort((place, -candidates.scores[image].numpy())))
        order = torch.from_numpy(np.stack(orders))
        scores, classes = (torch.gather(column, 1, order) for column in (candidates.scores, candidates.classes))
        return candidates._replace(scores=scores, classes=classes, box_of=order)

    def postprocessor(self, run: str) -> Postprocessor:
        """The settings of a recorded run. The official code's 0 and None stand for its defaults."""
        settings, options = self.runs[run]["nms_configs"], self.runs[run].get("kwargs", {})
        outputs, threshold = settings["max_output_size"], settings["score_thresh"]
        function = self.runs[run]["fn"]
        if function == "postprocess_combined":
            return combined(self.config, threshold or -np.inf, outputs)
        decoder = TopPairs(settings["max_nms_inputs"]) if settings["max_nms_inputs"] else best_class
        if settings["pyfunc"]:
            return Postprocessor(
                config=self.config, candidates=decoder, nms=NumpyPerClass(PIXEL[settings["method"]], outputs)
            )
        suppression: Suppression = Hard(settings["iou_thresh"] or 0.5, threshold or -np.inf)
        if settings["method"] == "gaussian":
            suppression = Gaussian(settings["sigma"] or 0.5, threshold or 0.001)
        within = function == "postprocess_per_class" or (
            function == "generate_detections" and options.get("per_class_nms", True)
        )
        whole = per_class if within else across_classes
        return dataclasses.replace(whole(self.config, suppression, outputs), candidates=decoder)


def nchw(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


def with_choose(postprocessor: Postprocessor, choose: Any) -> Postprocessor:
    """The same with another implementation of suppression."""
    assert isinstance(postprocessor.nms, (PerClass, AcrossClasses))
    return dataclasses.replace(postprocessor, nms=dataclasses.replace(postprocessor.nms, choose=choose))
