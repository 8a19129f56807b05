"""What `effconv export` wrote as a function of images, whatever its format: one class per format, files and a folder.

Each says of itself what it takes, what it drops and whose weights it has; nothing else is needed to run it.
"""

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...convert.conversion import file_sha256
from ...convert.output_kinds import SAVED_MODEL_FILE, SERVED_DESCRIPTION
from ...effdet_torch.engines.onnx_detector import Detecting
from ...effdet_torch.engines.onnx_export import INPUT
from ...effdet_torch.engines.program import CANDIDATES, load_program
from ...effdet_torch.postprocessing.detections import Detections
from ...effdet_torch.postprocessing.postprocess import clip_boxes, combined, unclipped
from ...errors import EffconvError
from ..comparison.exported import as_pixels, found_by_graph, onnx_session
from ..reference.network import import_tensorflow
from ..reference.saved_model import saved_model_runner
from ..reference.tflite import tflite_runner
from .description import About, about_of, description_in, stranger
from .program import RUNTIME, found_by_program
from .saved_model import found_by_saved_model, official_batch
from .tflite import channels_last, found_in, runtime_name

TEXTS = frozenset({"config", "weights_sha256"})  # in the metadata of every graph that effconv exports
LIMITS = {"score_threshold": "score_threshold", "max_detections": "max_outputs"}  # and the fields of `Detecting`
LOGITS, CODES = "class_logits", "box_codes"  # of a level, in the outputs of raw files
ALL, BEST = "all pairs", f"best {CANDIDATES} pairs"  # what suppression inside a file looks at


class Exported(ABC):
    """An exported detector, or a network alone (`raw`); `clip` is what the file does to boxes beyond the edges.

    Raises EffconvError for a file that `effconv export` did not write or that cannot be loaded, and where what runs it
    is not installed.
    """

    candidates = ALL

    def __init__(self, path: Path):
        self.path = path
        self.clip = clip_boxes
        self.name = path.name or path.resolve().name
        self.sha256 = _sha256(path)
        self.runtime, self.about, self.raw = self._open()

    @abstractmethod
    def _open(self) -> tuple[str, About, bool]:
        """(the runtime's name, what the file says of itself, whether it is a network alone) of what is ready to run."""

    @abstractmethod
    def detections(self, images: NDArray[Any]) -> Detections:
        """What a detector finds on images as it takes them, in input pixels."""

    @abstractmethod
    def outputs(self, images: NDArray[Any]) -> tuple[list[Tensor], list[Tensor]]:
        """The class logits and box codes of a network alone, (B, A*C, h, w) and (B, A*4, h, w), lowest level first."""

    def find(self, images: NDArray[Any]) -> Detections:
        """What the file finds on images; of a network alone, decoded and suppressed as a detector does it."""
        if not self.raw:
            return self.detections(images)
        detecting = self.about.detecting
        steps = combined(self.about.config, detecting.score_threshold, detecting.max_outputs)
        return dataclasses.replace(steps, clip=self.clip)(*self.outputs(images))

    def taken(self, images: Tensor) -> NDArray[Any]:
        """Normalised images (B, 3, H, W) as the file takes them: where that is pixels, rounded to whole numbers."""
        array: NDArray[Any] = images.numpy()
        return as_pixels(array, self.about.config) if self.about.detecting.pixels else array


def says_detector(texts: Mapping[str, str]) -> bool:
    """Whether a graph's metadata is of a detector that effconv exported."""
    return {*TEXTS, "score_threshold"} <= set(texts)


class GraphFile(Exported):
    """An ONNX graph, run by onnxruntime."""

    def _open(self) -> tuple[str, About, bool]:
        self.session, runtime = _loaded(self.path, onnx_session)
        texts = self.session.get_modelmeta().custom_metadata_map
        if not set(texts) >= TEXTS:
            raise stranger(self.path)
        try:
            given, names = self.session.get_inputs()[0], [each.name for each in self.session.get_outputs()]
            raw = names[0].startswith(LOGITS)
            pixels = given.type == "tensor(uint8)"
            size = tuple(given.shape[1:3] if pixels else given.shape[2:4])
            usual = {key: getattr(Detecting(size), field) for key, field in LIMITS.items()} if raw else {}
            said: dict[str, Any] = {
                **usual,
                **{key: texts[key] for key in LIMITS if key in texts},
                "config": {**json.loads(texts["config"]), "image_size": size},
                "input": {"size": size, "kind": "uint8" if pixels else "float32"},
                "precision": "float32",
                "weights_sha256": texts["weights_sha256"],
            }
        except (IndexError, TypeError, ValueError, RecursionError) as error:
            raise stranger(self.path) from error
        return runtime, about_of(said, self.path), raw

    def detections(self, images: NDArray[Any]) -> Detections:
        """Of any number of images."""
        return found_by_graph(self.session, images)

    def outputs(self, images: NDArray[Any]) -> tuple[list[Tensor], list[Tensor]]:
        """Of any number of images."""
        found = [torch.from_numpy(each) for each in self.session.run(None, {INPUT: images})]
        return found[: len(found) // 2], found[len(found) // 2 :]


class ProgramFile(Exported):
    """A program of torch.export, run by PyTorch."""

    candidates = BEST

    def _open(self) -> tuple[str, About, bool]:
        about = about_of(description_in(self.path), self.path)
        self.program = _loaded(self.path, load_program)
        return RUNTIME, about, not isinstance(_loaded(self.path, lambda _: self._run(_blank(about))), Mapping)

    def _run(self, images: NDArray[Any]) -> Any:
        with torch.inference_mode():
            return self.program(torch.from_numpy(images))

    def detections(self, images: NDArray[Any]) -> Detections:
        """Of any number of images."""
        return found_by_program(self.program, images)

    def outputs(self, images: NDArray[Any]) -> tuple[list[Tensor], list[Tensor]]:
        """Of any number of images."""
        logits, codes = self._run(images)
        return list(logits), list(codes)


class TFLiteFile(Exported):
    """A TFLite file, run by TensorFlow's interpreter, one image after another."""

    def _open(self) -> tuple[str, About, bool]:
        about = about_of(description_in(self.path), self.path)
        runtime = runtime_name()
        self.clip = unclipped
        self.run = _loaded(self.path, lambda path: tflite_runner(path.read_bytes()))
        found = _loaded(self.path, lambda _: self.run(channels_last(_blank(about), about.detecting)[0]))
        return runtime, about, any(name.startswith(LOGITS) for name in found)

    def _each(self, images: NDArray[Any]) -> list[dict[str, NDArray[Any]]]:
        return [self.run(image) for image in channels_last(images, self.about.detecting)]

    def detections(self, images: NDArray[Any]) -> Detections:
        """Of any number of images."""
        return found_in(self._each(images), self.about.detecting)

    def outputs(self, images: NDArray[Any]) -> tuple[list[Tensor], list[Tensor]]:
        """Of any number of images."""
        found = self._each(images)

        def maps(kind: str) -> list[Tensor]:
            names = [f"{kind}_{level}" for level in self.about.config.levels]
            stacked = (np.concatenate([each[name] for each in found]) for name in names)
            return [torch.from_numpy(np.ascontiguousarray(each.transpose(0, 3, 1, 2))) for each in stacked]

        return maps(LOGITS), maps(CODES)


class ServedFolder(Exported):
    """A SavedModel's folder, run by TensorFlow."""

    def _open(self) -> tuple[str, About, bool]:
        if not all((self.path / name).is_file() for name in (SAVED_MODEL_FILE, SERVED_DESCRIPTION)):
            raise EffconvError(
                f"{self.path}: expected a SavedModel's folder that `effconv export savedmodel` wrote, found no "
                f"{SAVED_MODEL_FILE} with {SERVED_DESCRIPTION.as_posix()} in it"
            )
        about = about_of(description_in(self.path), self.path)
        runtime = f"TensorFlow {import_tensorflow().__version__}"
        self.run = _loaded(self.path, saved_model_runner)
        found = _loaded(self.path, lambda _: self.run(official_batch(_blank(about), about.detecting)))
        return runtime, about, found[0].ndim == 4

    def detections(self, images: NDArray[Any]) -> Detections:
        """Of any number of images."""
        return found_by_saved_model(self.run, images, self.about.detecting)

    def outputs(self, images: NDArray[Any]) -> tuple[list[Tensor], list[Tensor]]:
        """Of any number of images."""
        maps = [
            torch.from_numpy(np.ascontiguousarray(each.transpose(0, 3, 1, 2)))
            for each in self.run(official_batch(images, self.about.detecting))
        ]
        return maps[: len(maps) // 2], maps[len(maps) // 2 :]


FORMATS: Mapping[str, type[Exported]] = {".onnx": GraphFile, ".pt2": ProgramFile, ".tflite": TFLiteFile}


def open_exported(path: Path) -> Exported:
    """An exported file or folder, ready to run. Raises EffconvError as `Exported` does, and for another ending."""
    if path.is_dir():
        return ServedFolder(path)
    if path.suffix not in FORMATS:
        raise EffconvError(f"{path}: expected an exported detector, a file ending in {', '.join(FORMATS)} or a folder")
    if not path.is_file():
        raise EffconvError(f"{path}: no such file")
    return FORMATS[path.suffix](path)


def _sha256(path: Path) -> str:
    """Of a file; of a folder, of the names and contents of all its files."""
    if not path.is_dir():
        return file_sha256(path)
    files = sorted(each for each in path.rglob("*") if each.is_file())
    lines = [f"{each.relative_to(path).as_posix()} {file_sha256(each)}\n" for each in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _blank(about: About) -> NDArray[Any]:
    """An image to run the file on once, to see what it gives."""
    height, width = about.config.image_size
    if about.detecting.pixels:
        return np.zeros((1, height, width, 3), np.uint8)
    return np.zeros((1, 3, height, width), np.float32)


def _loaded(path: Path, load: Any) -> Any:
    try:
        return load(path)
    except EffconvError:
        raise
    except Exception as error:  # the runtimes' own have no common base
        line = next((each.strip() for each in str(error).splitlines() if each.strip()), "")
        raise EffconvError(f"{path}: cannot be loaded ({type(error).__name__}: {line})") from error
