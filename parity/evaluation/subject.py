"""What is evaluated, a model or a file that `effconv export` wrote, and what the record says of it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ...effdet_torch.config import get_config
from ...loading import load
from ..comparison.subject import Choice
from ..exporting.exported import Exported
from ..exporting.weights_of_file import model_of, require_weights
from ..weights_identity import weights_identity
from .detect import Detector, NetworkDetector
from .file_detector import FileDetector
from .pipeline import Pipeline, Settings, build

Fetch = Callable[[str], Path]  # a model's name -> the path of its released checkpoint


class Evaluated(NamedTuple):
    """A detector with the steps around it; the last three are an exported file's alone."""

    detector: Detector
    pipeline: Pipeline
    name: str  # of its file
    weights: Path | None  # the file of its weights; None: they are in the exported file, and no other was named
    identity: Mapping[str, str]  # of its weights
    runtime: str | None = None
    precision: str | None = None
    exported: Mapping[str, Any] | None = None


def of_model(choice: Choice, settings: Settings, fetch: Fetch) -> Evaluated:
    """The model of a checkpoint, of the release where none is named. Raises EffconvError as `load` does."""
    path = choice.checkpoint or fetch(get_config(choice.model or "").name)
    model = load(path, model=choice.model, weights=choice.weights, function=choice.function, verify=choice.verify)
    return Evaluated(NetworkDetector(model), build(model.config, settings), path.name, path, weights_identity(path))


def of_file(file: Exported, choice: Choice, settings: Settings, fetch: Fetch) -> Evaluated:
    """An exported file. Raises EffconvError for a checkpoint, where one is named, of other weights than the file's."""
    if choice.checkpoint:
        require_weights(file, *model_of(choice, file.about, fetch))
    detector = FileDetector(file)
    return Evaluated(
        detector,
        detector.pipeline(settings),
        file.path.name,
        choice.checkpoint,
        # Not of a file of weights, so that no model card of the weights takes these figures for its own.
        {"weights_sha256": file.about.weights_sha256},
        file.runtime,
        file.about.precision,
        detector.record(),
    )
