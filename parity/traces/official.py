"""The live reference: the official computation in TensorFlow, as a trace."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...convert.apply import plan
from ...convert.layers import layers
from ...convert.sources import Container, open_checkpoint
from ...effdet_torch.config import Config
from ..reference.network import OfficialNetwork, import_tensorflow
from ..reference.reading import BY_TENSORFLOW, NOT_COVERED, read_with_tensorflow
from .trace import KINDS, Activation, Kind, nhwc


def official_variables(
    path: Path, config: Config, weights: str | None = None, *, verify: bool = True, by_tensorflow: bool = True
) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
    """({official TF1 name: array as stored}, where they come from) of a checkpoint's moving averages or raw weights.

    `weights` is "ema", "raw" or None for the averages where there are any. TensorFlow reads TF1 checkpoints and chooses
    between the two by rules of its own, so that a comparison with what we made of the same file covers our reading;
    "reading" says so, or that only we read it: a file of another kind, or `by_tensorflow` False. Raises
    CheckpointError, and EffconvError without TensorFlow where it is to read.
    """
    checkpoint = open_checkpoint(path, verify=verify)
    chosen = plan(checkpoint, config, weights)  # first, for it lists all that is wrong with a file
    source = {"checkpoint_fingerprint": checkpoint.fingerprint()}
    if by_tensorflow and checkpoint.container is Container.TF1:
        place = checkpoint.path
        on_disk = place.with_name(place.name + ".index").is_file()
        if found := read_with_tensorflow(path, config, weights, place if on_disk else None):
            variables, kind = found
            return variables, source | {"weights": kind, "reading": BY_TENSORFLOW}
    variables = {rule.tf: checkpoint.read(name) for rule, name in chosen.rows}
    return variables, source | {"weights": chosen.weights, "reading": NOT_COVERED}


class OfficialTrace:
    """The official computation with `variables` on `images` (B, 3, H, W), run anew each time it is walked.

    Raises EffconvError without TensorFlow.
    """

    exact = True
    kinds = KINDS

    def __init__(
        self,
        config: Config,
        variables: Mapping[str, NDArray[np.float32]],
        images: NDArray[np.float32],
        source: Mapping[str, Any],
    ):
        self.config, self.variables, self.images = config, variables, images
        version = import_tensorflow().__version__
        label = f"the official computation in TensorFlow {version}"
        if source.get("reading") == NOT_COVERED:
            label += f", with weights read {NOT_COVERED}"
        self.source = {"kind": "tensorflow", "label": label, **source}
        self._keys = {layer.official: layer.key for layer in layers(config)}
        self.required = frozenset(self._keys.values())
        single = OfficialNetwork(config, variables, "float32")
        self._networks = single, single.in_float64()

    def activations(self, kind: Kind) -> Iterator[Activation]:
        """Every layer, computed in float32 and float64 side by side."""
        tensorflow = import_tensorflow()
        single, double = self._networks
        images = tensorflow.constant(nhwc(self.images))
        runs = single.run(images), double.run(tensorflow.cast(images, "float64"))
        del images
        replacement: list[Any] | None = None
        while True:
            try:
                name, value = next(runs[0])
            except StopIteration:
                return
            _, wide = runs[1].send(replacement)
            # Views of TensorFlow's memory: `numpy()` would copy.
            yield Activation(self._keys[name], np.asarray(memoryview(value)), np.asarray(memoryview(wide)))
            del wide
            if kind == "local":
                replacement = [tensorflow.cast(value, "float64")]
            del value
