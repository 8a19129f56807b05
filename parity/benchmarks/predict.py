"""Image files' bytes to boxes, ours beside effdet's whole way: `effconv bench predict`."""

import copy
import importlib
import io
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ...effdet_torch.engines.engines import make_engine
from ...effdet_torch.model import EfficientDet
from ...effdet_torch.postprocessing.postprocess import per_class
from ...effdet_torch.preprocessing.decode import read_encoded
from ...effdet_torch.preprocessing.preprocess import Preprocessor
from ...errors import EffconvError
from ...loading import load
from ..prediction.image_files import find_images
from .contest import measure, over, use_threads
from .contest_records import MeasuredContest, PredictRecord
from .machine import CPU, ON_THE_CPU, Machine
from .peers import import_effdet, peer
from .predict_checks import (
    Step,
    expected_lists,
    in_batches,
    require_full_lists,
    require_network,
    require_ours,
    require_whole_batches,
)
from .process import SEED, make_checkpoint

EFFDET, EFFDET_SOFT = "effdet, hard NMS", "effdet, its soft-NMS"


class PredictContest(NamedTuple):
    """What is measured, on the images of a folder, whose encoded bytes are in memory."""

    folder: Path
    model: str
    checkpoint: Path | None
    engines: Sequence[str]
    peers: Sequence[str]
    batches: Sequence[int]
    rounds: int
    limit: int | None
    threads: int
    machine: Machine = ON_THE_CPU


def measure_predict(contest: PredictContest, command: str) -> PredictRecord:
    """A record of finding objects in images, in batches, by all contestants.

    Ours decode, resize and suppress (soft-NMS) as the official evaluation does. effdet's do it as its `validate.py`
    does: Pillow, its ResizePad, normalising, and its DetBenchPredict. Raises EffconvError for bad input, and where a
    contestant does other work.
    """
    machine, batches = contest.machine, contest.batches
    machine.require(contest.engines)
    use_threads(contest.threads)
    images = [read_encoded(path) for path in find_images([str(contest.folder)])[: contest.limit]]
    require_whole_batches(len(images), batches)
    with tempfile.TemporaryDirectory() as temporary:
        if contest.checkpoint is None:
            make_checkpoint(contest.model, f"{temporary}/model")
        network = load(contest.checkpoint or temporary, model=contest.model)
    steps, begun = _our_steps(contest.engines, network, images[0], machine)
    expected = expected_lists(network, images)
    for batch in batches:
        require_ours(steps, expected, images, batch)
    left_out: dict[str, str] = {}
    notes: dict[str, str] = {}
    for name in contest.peers:
        try:
            if name != "effdet":
                raise EffconvError(f"{name}: no such peer; there is effdet")
            found = peer(name, network, network.config.image_size)
        except EffconvError as error:
            left_out[name] = str(error)
            continue
        notes[EFFDET] = found.note
        require_network(name, found.network, network, images)
        theirs = {name: _effdet(found.network, soft, machine) for name, soft in ((EFFDET, False), (EFFDET_SOFT, True))}
        for batch in batches:
            require_full_lists(theirs, images, batch)
        steps.update(theirs)
    base = EFFDET if EFFDET in steps else next(iter(steps))
    contests = {batch: _in_turns(steps, images, batch, base, contest) for batch in batches}
    others = {str(batch): contests[batch] for batch in batches[1:]}
    return PredictRecord(
        what="encoded image to boxes, contestants taking turns, medians per image",
        command=command,
        model=network.config.name,
        image_size=network.config.image_size,
        checkpoint=contest.checkpoint.name if contest.checkpoint else f"official variables, random values, seed {SEED}",
        images=len(images),
        threads=contest.threads,
        left_out=left_out,
        notes={name: note for name, note in notes.items() if note},
        seconds_to_begin=begun,
        batch=batches[0],
        contest=contests[batches[0]],
        other_batches=others or None,
    )


def _in_turns(
    steps: Mapping[str, Step], images: Sequence[bytes], batch: int, base: str, contest: PredictContest
) -> MeasuredContest:
    machine, batched = contest.machine, in_batches(images, batch)
    contestants = {name: machine.complete(over(batched, step)) for name, step in steps.items()}
    found = measure(contestants, dict.fromkeys(contestants, base), contest.rounds, len(images))
    return replace(found, provenance={**found.provenance, **machine.described()})


def _our_steps(
    engines: Sequence[str], model: EfficientDet, encoded: bytes, machine: Machine
) -> tuple[dict[str, Step], dict[str, float]]:
    """(our contestants, seconds until each had the boxes of one image)."""
    steps: dict[str, Step] = {}
    begun: dict[str, float] = {}
    own = model if machine.device == CPU else copy.deepcopy(model).to(machine.device)
    for engine in engines:
        name = f"effconv, {engine}"
        started = time.perf_counter()
        steps[name] = _ours(make_engine(engine, own, model.config.image_size), model, machine)
        machine.complete(lambda step=steps[name]: step([encoded]))()  # type: ignore[misc]
        begun[name] = time.perf_counter() - started
    return steps, begun


def _ours(network: nn.Module, model: EfficientDet, machine: Machine) -> Step:
    preprocess, postprocess = Preprocessor(model.config), per_class(model.config)

    def detect(encoded: Sequence[bytes]) -> Any:
        images, scales = zip(*map(preprocess, encoded), strict=True)
        given = torch.from_numpy(np.stack(images)).to(machine.device)
        with torch.inference_mode():
            logits, codes = network(given)
            return postprocess(logits, codes, torch.tensor([*map(float, scales)], device=machine.device))

    return detect


def _effdet(network: Any, soft: bool, machine: Machine) -> Step:
    from PIL import Image

    package, _ = import_effdet()
    transforms = importlib.import_module("effdet.data.transforms")
    importlib.import_module("omegaconf").OmegaConf.set_readonly(network.config, False)
    network.config.soft_nms = soft
    bench = package.DetBenchPredict(network).eval().to(machine.device)
    # Only those of its configurations have their own that differ from ImageNet's.
    defaults = {"mean": transforms.IMAGENET_DEFAULT_MEAN, "std": transforms.IMAGENET_DEFAULT_STD}
    normalisation = [tuple(network.config.get(name) or value) for name, value in defaults.items()]
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in normalisation)
    fill = tuple(round(255 * value) for value in normalisation[0])
    steps = [transforms.ResizePad(network.config.image_size, fill_color=fill), transforms.ImageToNumpy()]

    def prepared(encoded: bytes) -> tuple[Tensor, float, tuple[int, int]]:
        image: Any = Image.open(io.BytesIO(encoded)).convert("RGB")
        about: dict[str, Any] = {}
        size = image.size
        for step in steps:
            image, about = step(image, about)
        return (torch.from_numpy(image).float() - mean) / std, about["img_scale"], size

    def detect(encoded: Sequence[bytes]) -> Tensor:
        images, scales, sizes = zip(*map(prepared, encoded), strict=True)
        given = torch.stack(images).to(machine.device)
        about = {"img_scale": torch.tensor(scales), "img_size": torch.tensor(sizes)}
        with torch.inference_mode():
            return bench(given, {key: each.to(machine.device) for key, each in about.items()})  # type: ignore[no-any-return]

    return detect
