"""Encoded images to the network's input, ours beside TensorFlow's and Pillow's decoding: `effconv bench input`."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...effdet_torch.config import get_config
from ...effdet_torch.preprocessing.decode import decode, decode_with_pillow, read_encoded
from ...effdet_torch.preprocessing.preprocess import Preprocessor
from ..prediction.image_files import find_images
from ..provenance import version
from ..reference.graphs import compiled_decode, compiled_input
from ..reference.network import import_tensorflow
from .contest import measure, over, require_tensorflow, use_one_thread
from .contest_records import InputRecord
from .equal_work import require_equal, require_pixels

OURS, OUR_DECODING = "effconv", "effconv, decoding alone"
# Twice the most that Pillow's pixels were found off TensorFlow's (`decode_with_pillow`). It refuses another image's
# pixels, zeros, and colours in another order.
PILLOW_LEVELS = 18


def measure_input(folder: Path, model: str, rounds: int, limit: int | None, command: str) -> InputRecord:
    """A record of preparing every image of `folder` for `model`, the encoded bytes being in memory.

    A turn is one pass over all images. TensorFlow's graph optimiser is off, because it rewrites the division that
    normalises; then the inputs are identical, or nothing is measured. Raises EffconvError without TensorFlow, for a
    folder without images and for a contestant that does other work, ImageError for an image that cannot be read.
    """
    require_tensorflow()
    use_one_thread()
    config = get_config(model)
    paths = find_images([str(folder)])[:limit]
    images = [read_encoded(path) for path in paths]
    preprocess = Preprocessor(config)
    for each, path in zip(images, paths, strict=True):
        decode(each, name=str(path))  # an error names the file
    theirs, their_decoding = compiled_input(config), compiled_decode()
    steps: dict[str, Callable[[bytes], Any]] = {
        OURS: preprocess,
        "TensorFlow": theirs,
        OUR_DECODING: decode,
        "TensorFlow, decoding alone": their_decoding,
        "Pillow, decoding alone": decode_with_pillow,
    }
    contestants = {name: over(images, step) for name, step in steps.items()}
    beside = {name: OUR_DECODING if "alone" in name else OURS for name in contestants}
    with _optimiser_off():
        identical = _require_same(steps, images)
        measured = measure(contestants, beside, rounds, len(images))
    return InputRecord(
        what="encoded image to network input on one thread, contestants taking turns, medians per image",
        command=command,
        model=config.name,
        image_size=config.image_size,
        images=len(images),
        megapixels_per_image=float(np.mean([np.prod(decode(each).shape[:2]) for each in images])) / 1e6,
        identical_inputs=identical,
        graph_optimiser="off",
        decoder_versions={name: version(name) for name in ("simplejpeg", "pillow")},
        contest=measured,
    )


def _require_same(steps: dict[str, Callable[[bytes], Any]], images: Sequence[bytes]) -> int:
    """How many images all contestants make the same of. Raises EffconvError where one does not."""
    inputs = ((np.asarray(steps["TensorFlow"](each)[0]).transpose(2, 0, 1), steps[OURS](each)[0]) for each in images)
    identical = require_equal("TensorFlow", "input", inputs)
    name = "TensorFlow, decoding alone"
    require_equal(name, "pixels", ((np.asarray(steps[name](each)), steps[OUR_DECODING](each)) for each in images))
    name = "Pillow, decoding alone"
    for each in images:
        require_pixels(name, steps[name](each), steps[OUR_DECODING](each), PILLOW_LEVELS)
    return identical


@contextlib.contextmanager
def _optimiser_off() -> Iterator[None]:
    optimiser = import_tensorflow().config.optimizer
    optimiser.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        optimiser.set_experimental_options({"disable_meta_optimizer": False})
