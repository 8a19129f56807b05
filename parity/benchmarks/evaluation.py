"""JPEG to detections, ours beside TensorFlow's whole pipeline in one graph: `effconv bench eval`."""

import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...effdet_torch.config import get_config
from ...effdet_torch.engines.engines import make_engine
from ...effdet_torch.preprocessing.decode import read_encoded
from ...errors import EffconvError
from ...loading import load
from ..datasets.layouts import read_dataset
from ..evaluation.pipeline import Settings, build
from ..traces.official import official_variables
from ..traces.trace import nhwc
from .contest import measure, over, require_tensorflow, use_one_thread
from .contest_records import EvaluationRecord
from .contestants import by_level
from .equal_work import Detections, Lists, may_differ, require_detections, require_outputs, work_of
from .process import SEED, make_checkpoint

OURS, OUR_NETWORK = "effconv", "effconv, network alone"


def measure_evaluation(
    folder: Path, model: str, checkpoint: Path | None, engine: str, rounds: int, limit: int, command: str
) -> EvaluationRecord:
    """A record of detecting on the first `limit` images of a dataset, batch 1, the encoded bytes being in memory.

    A turn is one pass over the images; `engine` (`engines.ENGINES`) runs our network. Without `checkpoint` the weights
    are random, of which the time does not depend.
    TensorFlow runs as it is installed, graph optimiser and oneDNN on and weights constant. `detections_agreeing` is the
    share of our detections that TensorFlow's has too. Raises EffconvError for bad input, and where a contestant's
    outputs or detections are others than rounding explains.
    """
    require_tensorflow()
    if "tensorflow" in sys.modules:
        raise EffconvError("TensorFlow is running already, with other settings: measure in a fresh process")
    use_one_thread()
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # everywhere else it is off, as it was where the goldens were recorded
    from ..reference.graphs import compiled_network, compiled_pipeline

    config = get_config(model)
    images = [read_encoded(image.path) for image in read_dataset(folder).images[:limit]]
    with tempfile.TemporaryDirectory() as temporary:
        if checkpoint is None:
            make_checkpoint(model, f"{temporary}/model")
        network = load(checkpoint or temporary, model=config)
        variables, _ = official_variables(checkpoint or Path(temporary), config)
    pipeline, runner = build(config, Settings()), make_engine(engine, network, config.image_size)

    def listed(outputs: Lists, scale: float) -> Detections:
        with torch.inference_mode():
            found = pipeline.postprocess(*outputs, torch.tensor([scale]))
        return [found.boxes[0], found.scores[0], found.classes[0]]

    def detect(encoded: bytes) -> Detections:
        image, scale = pipeline.preprocess(encoded)
        return listed(forward(torch.from_numpy(image)[None]), float(scale))

    def forward(given: Tensor) -> Lists:
        with torch.inference_mode():
            return runner(given)  # type: ignore[no-any-return]

    theirs, their_network = compiled_pipeline(config, variables), compiled_network(config, variables)
    agreement = []
    for place, encoded in enumerate(images):
        image, scale = pipeline.preprocess(encoded)
        given = torch.from_numpy(image)[None]
        work, outputs, ours = work_of(network, given), forward(given), detect(encoded)
        if not place:
            require_outputs(OUR_NETWORK, outputs, work)
            named = their_network(nhwc(given.numpy()))
            require_outputs("TensorFlow, network alone", by_level(named, config.levels), work)
        allowed = may_differ(ours, outputs, work[0].costs, partial(listed, scale=float(scale)))
        agreement.append(require_detections("TensorFlow", theirs(encoded), ours, allowed))
    tensor = torch.from_numpy(pipeline.preprocess(images[0])[0])[None]
    array = nhwc(tensor.numpy())
    contestants: dict[str, Callable[[], object]] = {
        OURS: over(images, detect),
        "TensorFlow": over(images, theirs),
        OUR_NETWORK: over(images, lambda _: forward(tensor)),
        "TensorFlow, network alone": over(images, lambda _: their_network(array)),
    }
    beside = {name: OUR_NETWORK if "alone" in name else OURS for name in contestants}
    return EvaluationRecord(
        what="encoded image to detections on one thread, batch 1, contestants taking turns, medians per image",
        command=command,
        model=config.name,
        image_size=config.image_size,
        checkpoint=checkpoint.name if checkpoint else f"official variables, random values, seed {SEED}",
        images=len(images),
        detections_agreeing=float(np.mean(agreement)),
        engine=engine,
        precision="float32",
        onednn=os.environ["TF_ENABLE_ONEDNN_OPTS"],
        contest=measure(contestants, beside, rounds, len(images)),
    )
