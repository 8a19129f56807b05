"""`effconv parity --layerwise` as one job: find the reference and the candidate, compare, explain, record."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ... import __version__
from ...convert.conversion import convert
from ...convert.sources import open_checkpoint
from ...effdet_torch.config import Config, get_config
from ...effdet_torch.model import EfficientDet
from ...errors import EffconvError
from ...loading import PICKLE_ENDINGS, load
from ...progress import CHANGES, LAYERS, progress
from ..embedded import CONFIG, FOLDER, TRACE
from ..mistakes.network import Change, raw_weights
from ..provenance import version
from ..traces.candidate_trace import CandidateTrace
from ..traces.golden import Golden, GoldenTrace
from ..traces.graph import GraphTrace
from ..traces.images import noise, photograph
from ..traces.official import OfficialTrace, official_variables
from ..traces.recording import RecordedTrace, is_recording
from ..traces.trace import Trace
from .backward import compare_gradients
from .compare import compare
from .exercise import unexercised
from .explain import explain
from .rows import first_failure
from .verdict import comparison_record
from .weights_by_name import WeightsByName, compare_by_name

LIVE = ("tensorflow", "graph", "saved model")  # references that TensorFlow runs

Fetch = Callable[[str], Path]  # a model's name -> the path of its released checkpoint


class Choice(NamedTuple):
    """What to compare, as it is asked for; None means the default."""

    model: str | None = None
    checkpoint: Path | None = None
    weights: str | None = None  # "ema" or "raw"
    candidate: Path | None = None  # weights to prove; the checkpoint's own, converted, where None
    reference: str | None = None  # "tf", "torch", or a path
    image: Path | None = None
    noise_seed: int | None = None
    size: tuple[int, int] | None = None  # (H, W)
    verify: bool = True


class Subject(NamedTuple):
    """A model and the checkpoint its weights are from."""

    config: Config
    checkpoint: Path
    weights: str | None
    verify: bool

    def load(self) -> EfficientDet:
        """The checkpoint converted, ready to run."""
        return load(self.checkpoint, model=self.config, weights=self.weights, verify=self.verify)


def parse_size(text: str) -> tuple[int, int]:
    """ "512x640" -> (512, 640), height first. Raises EffconvError."""
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.strip().lower())
    if not found or not all(1 <= int(side) <= 65536 for side in found.groups()):
        raise EffconvError(f"--size {text}: expected HEIGHTxWIDTH in pixels, such as 512x640")
    return int(found[1]), int(found[2])


def choose_subject(choice: Choice, fetch: Fetch) -> Subject:
    """The model and checkpoint to compare; those of the embedded detector where nothing is named."""
    checkpoint, config = choice.checkpoint, None
    if choice.model is not None:
        config = get_config(choice.model)
    elif choice.reference not in (None, "tf", "torch"):
        path = Path(choice.reference or "")
        if path.suffix == ".npz" and is_recording(path):
            config = RecordedTrace(path).config
    embedded = get_config(str(CONFIG))
    config = config or (embedded if checkpoint is None else None)
    if config is None:
        raise EffconvError(f"{checkpoint}: name the model it is of (--model d0)")
    if checkpoint is None:
        checkpoint = FOLDER if config == embedded else fetch(config.name)
    return Subject(config, checkpoint, choice.weights, choice.verify)


def choose_trace(choice: Choice, subject: Subject) -> Trace:
    """The reference as a trace. Raises EffconvError for one that cannot be read or does not suit the choice."""
    config, reference = subject.config, choice.reference
    if reference is None:
        # Without TensorFlow, what it computed of the embedded detector still proves it.
        embedded = subject.checkpoint == FOLDER and not _asks_for_images(choice)
        reference = str(TRACE) if embedded and version("tensorflow") is None else "tf"
    if reference == "tf":
        variables, source = official_variables(subject.checkpoint, config, subject.weights, verify=subject.verify)
        images, label = choose_images(choice, config)
        return OfficialTrace(config, variables, images, {**source, "images": label})
    if reference == "torch":
        images, label = choose_images(choice, config)
        return CandidateTrace(subject.load(), images, {**_checkpoint(subject), "images": label})
    path = Path(reference)
    if path.suffix == ".npz":
        if _asks_for_images(choice):
            raise EffconvError(f"{path}: a recorded trace brings its own images; leave out --image, --noise and --size")
        if is_recording(path):
            return RecordedTrace(path)
        return GoldenTrace(Golden(path), config, path)
    if path.suffix == ".pb" or path.is_dir():
        size = GraphTrace.image_size(path, config) or choice.size
        images, label = choose_images(choice._replace(size=choice.size or size), config)
        return GraphTrace(path, config, images)
    raise EffconvError(
        f"--reference {reference}: expected tf, torch, a trace (.npz), a graph (.pb) or a SavedModel folder"
    )


def _asks_for_images(choice: Choice) -> bool:
    return any(value is not None for value in (choice.image, choice.noise_seed, choice.size))


def choose_images(choice: Choice, config: Config) -> tuple[NDArray[np.float32], str]:
    """((1, 3, H, W), what they are). Raises EffconvError for an unreadable image."""
    size = choice.size or config.image_size
    if choice.image is not None:
        if choice.noise_seed is not None:
            raise EffconvError("--image and --noise: choose one")
        return photograph(choice.image, config, size), choice.image.name
    seed = choice.noise_seed or 0
    return noise(seed, size), f"noise, seed {seed}"


def compare_layerwise(
    choice: Choice, fetch: Fetch, command: str, *, explaining: bool, backward: bool
) -> dict[str, Any]:
    """Compare, and return the record (`verdict.comparison_record`). Raises EffconvError for bad input."""
    subject = choose_subject(choice, fetch)
    trace = choose_trace(choice, subject)
    if trace.config != subject.config:
        raise EffconvError(
            f"{choice.reference}: a trace of {trace.config.name}, and the model asked for is {subject.config.name}"
        )
    clean = subject.load()
    candidate = clean if choice.candidate is None else load(choice.candidate, model=subject.config)
    with progress("comparing", LAYERS) as report:
        rows = compare(trace, candidate, report)
    gradient_rows = []
    if backward:
        variables, _ = official_variables(subject.checkpoint, subject.config, subject.weights, verify=False)
        gradient_rows = compare_gradients(candidate, variables, trace.images)
    first = first_failure(rows)
    explanations = []
    if explaining and first:
        with progress("explaining", CHANGES) as report:
            explanations = explain(trace, candidate, clean, first, _raw(subject), report)
    tensors = _compare_tensors(subject, candidate, trace)
    unreached = [each.record() for each in unexercised(candidate, trace.images)]
    sides = {
        "reference": trace.source,
        "candidate": {
            "label": f"effconv {__version__}, PyTorch {torch.__version__}",
            **_identity(choice.candidate or subject.checkpoint),
        },
        "images": {"label": trace.source.get("images", "of the trace"), "shape": list(trace.images.shape)},
    }
    return comparison_record(
        subject.config.name, rows, gradient_rows, explanations, sides, command, tensors.record(), unreached
    )


def _compare_tensors(subject: Subject, candidate: EfficientDet, trace: Trace) -> WeightsByName:
    """Every tensor beside the checkpoint's; TensorFlow reads it where the reference has TensorFlow run anyway."""
    if isinstance(trace, OfficialTrace):  # it has read the checkpoint
        variables, reading = trace.variables, trace.source["reading"]
    else:
        by_tensorflow = trace.source.get("kind") in LIVE and not isinstance(trace, RecordedTrace)
        variables, source = official_variables(
            subject.checkpoint, subject.config, subject.weights, verify=False, by_tensorflow=by_tensorflow
        )
        reading = source["reading"]
    compared, faults = compare_by_name(candidate.state_dict(), variables, subject.config)
    return WeightsByName(compared, faults, reading, _checkpoint(subject))


def _checkpoint(subject: Subject) -> dict[str, str]:
    fingerprint = open_checkpoint(subject.checkpoint, verify=False).fingerprint()
    return {"checkpoint": subject.checkpoint.name, "checkpoint_fingerprint": fingerprint}


def _identity(path: Path) -> dict[str, str]:
    """What a candidate's weights are known by: the sha256 of a PyTorch file, the fingerprint of a checkpoint."""
    if path.suffix == ".safetensors" or path.suffix in PICKLE_ENDINGS:
        with path.open("rb") as file:
            return {"weights": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    return {"weights": path.name, "checkpoint_fingerprint": open_checkpoint(path, verify=False).fingerprint()}


def _raw(subject: Subject) -> list[Change]:
    """The checkpoint's raw weights as a change, where it holds any beside those used."""
    checkpoint = open_checkpoint(subject.checkpoint, verify=False)
    chosen = convert(checkpoint, subject.config, "raw", verify=False)
    if chosen.plan.weights != "raw":
        return []
    return [raw_weights({key: torch.from_numpy(np.ascontiguousarray(array)) for key, array in chosen.state.items()})]
