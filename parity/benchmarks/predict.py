"""Image files' bytes to boxes, ours beside effdet's whole way: `effconv bench predict`."""

import importlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from ..reference.pipeline import DETECTIONS
from .contest import measure, over, use_threads
from .contest_records import PredictRecord
from .equal_work import (
    Detections,
    Lists,
    may_differ,
    other_work,
    require_detections,
    require_outputs,
    work_of,
)
from .peers import import_effdet, peer
from .process import SEED, make_checkpoint

EFFDET, EFFDET_SOFT = "effdet, hard NMS", "effdet, its soft-NMS"


def measure_predict(
    folder: Path,
    model: str,
    checkpoint: Path | None,
    engines: list[str],
    peers: list[str],
    rounds: int,
    limit: int | None,
    threads: int,
    command: str,
) -> PredictRecord:
    """A record of finding objects in images whose encoded bytes are in memory, one image at a time, by all contestants.

    Ours decode, resize and suppress (soft-NMS) as the official evaluation does. effdet's do it as its `validate.py`
    does: Pillow, its ResizePad, normalising, and its DetBenchPredict. Raises EffconvError for bad input, and where a
    contestant does other work.
    """
    use_threads(threads)
    images = [read_encoded(path) for path in find_images([str(folder)])[:limit]]
    with tempfile.TemporaryDirectory() as temporary:
        if checkpoint is None:
            make_checkpoint(model, f"{temporary}/model")
        network = load(checkpoint or temporary, model=model)
    size = network.config.image_size
    makers = {f"effconv, {engine}": make_engine(engine, network, size) for engine in engines}
    steps: dict[str, Callable[[bytes], Any]] = {name: _ours(made, network) for name, made in makers.items()}
    require_ours(steps, network, images)
    left_out: dict[str, str] = {}
    notes: dict[str, str] = {}
    for name in peers:
        try:
            if name != "effdet":
                raise EffconvError(f"{name}: no such peer; there is effdet")
            found = peer(name, network, size)
        except EffconvError as error:
            left_out[name] = str(error)
            continue
        notes[EFFDET] = found.note
        theirs = {name: _effdet(found.network, soft) for name, soft in ((EFFDET, False), (EFFDET_SOFT, True))}
        require_peer(theirs, found.network, network, images)
        steps.update(theirs)
    contestants = {name: over(images, step) for name, step in steps.items()}
    base = EFFDET if EFFDET in contestants else next(iter(contestants))
    return PredictRecord(
        what="encoded image to boxes, one image at a time, contestants taking turns, medians per image",
        command=command,
        model=network.config.name,
        image_size=size,
        checkpoint=checkpoint.name if checkpoint else f"official variables, random values, seed {SEED}",
        images=len(images),
        threads=threads,
        left_out=left_out,
        notes={name: note for name, note in notes.items() if note},
        contest=measure(contestants, dict.fromkeys(contestants, base), rounds, len(images)),
    )


def require_ours(steps: dict[str, Callable[[bytes], Any]], model: EfficientDet, images: list[bytes]) -> None:
    """Raises EffconvError where a contestant's detections of an image are none that rounding makes of our model's."""
    preprocess, postprocess = Preprocessor(model.config), per_class(model.config)
    for encoded in images:
        image, scale = preprocess(encoded)
        given, scales = torch.from_numpy(image)[None], torch.tensor([float(scale)])

        def listed(outputs: Lists, scales: Tensor = scales) -> Detections:
            return _first(postprocess(*outputs, scales))

        with torch.inference_mode():
            outputs = model(given)
            ours = listed(outputs)
            allowed = may_differ(ours, outputs, work_of(model, given)[0].costs, listed)
        for name, step in steps.items():
            require_detections(name, _first(step(encoded)), ours, allowed)


def require_peer(
    steps: dict[str, Callable[[bytes], Any]], peer: nn.Module, model: EfficientDet, images: list[bytes]
) -> None:
    """Raises EffconvError where a peer's network is not the model, on each image, or gives less than its full list.

    Its lists are not compared with ours: it resizes and suppresses otherwise, which is what is being shown.
    """
    size, preprocess = model.config.image_size, Preprocessor(model.config)
    theirs = tuple(getattr(peer.config, "image_size", ()))
    for name, step in steps.items():
        if theirs != tuple(size):
            raise other_work(name, f"images of {size}", f"found {theirs}")
        for place, encoded in enumerate(images):
            given = torch.from_numpy(preprocess(encoded)[0])[None]
            with torch.inference_mode():
                outputs = peer(given)
            require_outputs(name, outputs, work_of(model, given))
            shape = tuple(step(encoded).shape)
            if shape[:2] != (1, DETECTIONS):
                raise other_work(name, f"{DETECTIONS} detections of image {place + 1}", f"found shape {shape}")


def _first(found: Any) -> Detections:
    return [found.boxes[0], found.scores[0], found.classes[0]]


def _ours(network: nn.Module, model: EfficientDet) -> Callable[[bytes], object]:
    preprocess, postprocess = Preprocessor(model.config), per_class(model.config)

    def detect(encoded: bytes) -> object:
        image, scale = preprocess(encoded)
        with torch.inference_mode():
            logits, codes = network(torch.from_numpy(image)[None])
            return postprocess(logits, codes, torch.tensor([float(scale)]))

    return detect


def _effdet(network: Any, soft: bool) -> Callable[[bytes], object]:
    from PIL import Image

    package, _ = import_effdet()
    transforms = importlib.import_module("effdet.data.transforms")
    importlib.import_module("omegaconf").OmegaConf.set_readonly(network.config, False)
    network.config.soft_nms = soft
    bench = package.DetBenchPredict(network).eval()
    # Only those of its configurations have their own that differ from ImageNet's.
    defaults = {"mean": transforms.IMAGENET_DEFAULT_MEAN, "std": transforms.IMAGENET_DEFAULT_STD}
    normalisation = [tuple(network.config.get(name) or value) for name, value in defaults.items()]
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in normalisation)
    fill = tuple(round(255 * value) for value in normalisation[0])
    steps = [transforms.ResizePad(network.config.image_size, fill_color=fill), transforms.ImageToNumpy()]

    def detect(encoded: bytes) -> Tensor:
        image: Any = Image.open(io.BytesIO(encoded)).convert("RGB")
        about: dict[str, Any] = {}
        size = image.size
        for step in steps:
            image, about = step(image, about)
        given = ((torch.from_numpy(image).float() - mean) / std)[None]
        about = {"img_scale": torch.tensor([about["img_scale"]]), "img_size": torch.tensor([size])}
        with torch.inference_mode():
            return bench(given, about)  # type: ignore[no-any-return]

    return detect
