"""What to compare with what: the model, its checkpoint, the reference, the images."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ...convert.apply import with_its_classes
from ...convert.sources import open_checkpoint
from ...effdet_torch.config import Config, get_config
from ...effdet_torch.model import EfficientDet
from ...errors import EffconvError
from ...loading import load
from ...version import __version__
from ..embedded import CONFIG, FOLDER, TRACE
from ..reference.availability import runs_live
from ..traces.candidate_trace import CandidateTrace
from ..traces.golden import Golden, GoldenTrace
from ..traces.graph import GraphTrace
from ..traces.images import noise, photograph
from ..traces.official import OfficialTrace, official_variables
from ..traces.recording import RecordedTrace, is_recording
from ..traces.trace import Trace
from ..weights_identity import weights_identity
from .records import Candidate

Fetch = Callable[[str], Path]  # a model's name -> the path of its released checkpoint


class Choice(NamedTuple):
    """What to compare, as it is asked for; None means the default."""

    model: str | None = None
    checkpoint: Path | None = None
    weights: str | None = None  # "ema" or "raw"
    candidate: Path | None = None  # weights to prove; the checkpoint's own, converted, where None
    function: str | None = None  # of the candidate, as `loading.load` has it
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
        raise EffconvError(f"{checkpoint}: name the model it is of", parameters={"model": "d0"})
    if checkpoint is None:
        checkpoint = FOLDER if config == embedded else fetch(config.name)
    opened = open_checkpoint(checkpoint, verify=False)
    config = with_its_classes(opened.variables, opened.container, config)
    return Subject(config, checkpoint, choice.weights, choice.verify)


def choose_trace(choice: Choice, subject: Subject) -> Trace:
    """The reference as a trace. Raises EffconvError for one that cannot be read or does not suit the choice."""
    config, reference = subject.config, choice.reference
    if reference is None:
        # Without TensorFlow, what it computed of the embedded detector still proves it.
        embedded = subject.checkpoint == FOLDER and not _asks_for_images(choice)
        reference = str(TRACE) if embedded and not runs_live() else "tf"
    if reference == "tf":
        variables, source = official_variables(subject.checkpoint, config, subject.weights, verify=subject.verify)
        images, label = choose_images(choice, config)
        return OfficialTrace(config, variables, images, {**source, "images": label})
    if reference == "torch":
        images, label = choose_images(choice, config)
        return CandidateTrace(subject.load(), images, {**checkpoint_record(subject), "images": label})
    path = Path(reference)
    if path.suffix == ".npz":
        if _asks_for_images(choice):
            raise EffconvError(
                f"{path}: a recorded trace brings its own images; leave out image, seed and size",
                parameters={"image": None, "noise_seed": None, "size": None},
            )
        if is_recording(path):
            return RecordedTrace(path)
        return GoldenTrace(Golden(path), config, path)
    if path.suffix == ".pb" or path.is_dir():
        size = GraphTrace.image_size(path, config) or choice.size
        images, label = choose_images(choice._replace(size=choice.size or size), config)
        return GraphTrace(path, config, images)
    raise EffconvError(
        f"reference {reference}: expected tf, torch, a trace (.npz), a graph (.pb) or a SavedModel folder",
        parameters={"reference": None},
    )


def _asks_for_images(choice: Choice) -> bool:
    return any(value is not None for value in (choice.image, choice.noise_seed, choice.size))


def choose_images(choice: Choice, config: Config) -> tuple[NDArray[np.float32], str]:
    """((1, 3, H, W), what they are). Raises EffconvError for an unreadable image."""
    size = choice.size or config.image_size
    if choice.image is not None:
        if choice.noise_seed is not None:
            raise EffconvError(
                "a photograph and a seed of noise: choose one", parameters={"image": None, "noise_seed": None}
            )
        return photograph(choice.image, config, size), choice.image.name
    seed = choice.noise_seed or 0
    return noise(seed, size), f"noise, seed {seed}"


def load_candidate(choice: Choice, subject: Subject, own: EfficientDet | None = None) -> EfficientDet:
    """The model to prove; the checkpoint's, which `own` is where it is loaded, if no other is named.

    Raises EffconvError for a candidate that is none, and for a function without a candidate.
    """
    if choice.candidate is not None:
        return load(choice.candidate, model=subject.config, function=choice.function, verify=choice.verify)
    if choice.function is not None:
        raise EffconvError(
            "the function is a candidate's; name one, or leave the function out", parameters={"candidate": None}
        )
    return subject.load() if own is None else own


def candidate_record(choice: Choice, subject: Subject) -> Candidate:
    """The side that is proven: what runs it, and the file its weights are from, by name and by what is in it.

    PyTorch weights are known by the sha256 of their file, a checkpoint by its fingerprint.
    """
    path = choice.candidate or subject.checkpoint
    label = f"effconv {__version__}, PyTorch {torch.__version__}"
    return Candidate(label=label, weights=path.name, **weights_identity(path))


def checkpoint_record(subject: Subject) -> dict[str, str]:
    fingerprint = open_checkpoint(subject.checkpoint, verify=False).fingerprint()
    return {"checkpoint": subject.checkpoint.name, "checkpoint_fingerprint": fingerprint}
