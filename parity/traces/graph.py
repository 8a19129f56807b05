"""An exported EfficientDet, frozen graph (`.pb`) or SavedModel folder, as a trace: the official file, run as it is.

Layers are found by the names of the official graph's operations, behind any one prefix. The graph is fed normalised
images where the first convolution takes them, so the file's own preprocessing is not part of the comparison.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...convert.layers import layers
from ...effdet_torch.architecture import cell_nodes
from ...effdet_torch.config import Config
from ...errors import EffconvError
from ..reference.network import import_tensorflow
from .graph_file import FLOAT32, IMAGES, MAX_ELEMENTS, GraphFile
from .images import noise
from .trace import KINDS, Activation, Kind, nhwc

# Where graphs and the layer table differ in their names. Pooling layers are counted over the whole graph; and where the
# table counts the calls of a head's layer, as the official TF1 code does, Keras counts the operations inside it.
TABLE_NAMES = (
    (re.compile(r"max_pooling2d_\d+/MaxPool$"), r"max_pooling2d/MaxPool"),
    (re.compile(r"^((?:class|box)_net/[\w-]+)/separable_conv2d_(\d+)/depthwise$"), r"\1_\2/separable_conv2d/depthwise"),
    (re.compile(r"^((?:class|box)_net/[\w-]+)/BiasAdd_(\d+)$"), r"\1_\2/BiasAdd"),
)
# A layer's output that goes through one of these first is not what the operation behind it takes.
REARRANGING = ("Cast", "Pad", "Reshape", "SpaceToBatchND", "Transpose")
# Layers that no graph of the model lacks.
LANDMARK = re.compile(
    r"backbone\.stem\.\w+|backbone\.blocks\.\d+|bifpn\.cells\.\d+\.nodes\.\d+\.norm|(class|box)_head\.predict\[\d+\]"
)
MAX_COPIES = 16  # of the network in one file; a SavedModel has one per signature

# Activations fetched in one run. Each further group is another run from the images on, as far as its layers: D0 at its
# own size takes one run, D4 ten, D7x fifty, each of half the network on average. All of D7x at once would be 24 GB.
GROUP_BYTES = 512 << 20


class GraphTrace:
    """A graph file of the model `config`, run on `images` (B, 3, H, W), normalised; noise where None.

    Raises EffconvError without TensorFlow, and for a file that cannot be read, is no such model, holds operations that
    an EfficientDet does not have, or is for images of another size.
    """

    kinds = KINDS  # with float32 alone, the same arrays serve both
    exact = False

    def __init__(self, path: Path, config: Config, images: NDArray[np.float32] | None = None):
        tensorflow = import_tensorflow()
        file = GraphFile(path)
        pairs = _paired(file, config)
        wanted = _image_size(file, config, pairs)
        self.config = config
        self.images = noise(0, wanted or config.image_size) if images is None else images
        given = self.images.shape[2], self.images.shape[3]
        if wanted and _level_size(given, config) != _level_size(wanted, config):
            raise EffconvError(f"{path}: a graph for images of {_by(wanted)} (height x width), not of {_by(given)}")
        known = [layer for layer in layers(config) if layer.operation or layer.consumer]
        self.required = landmarks(config)
        self.source = {
            "kind": "saved model" if file.is_saved_model else "graph",
            "label": f"{'SavedModel' if file.is_saved_model else 'frozen graph'} {path.name}",
            "file": path.name,
            "sha256": file.sha256,
            "tensorflow": tensorflow.__version__,
            "paired": len(pairs),
            "unpaired": [layer.key for layer in known if layer.key not in pairs],
        }
        if images is None:
            self.source["images"] = "noise, seed 0"
        self._path = path
        shape = nhwc(self.images).shape
        stem = file.nodes[pairs["backbone.stem.conv"].rpartition(":")[0]]
        definition = file.subgraph(pairs.values(), file.resolve(stem.inputs[0]), shape)
        self._graph = tensorflow.Graph()
        try:
            with self._graph.as_default():
                tensorflow.import_graph_def(definition, name="")
            self._tensors = {key: self._tensor(key, tensor) for key, tensor in pairs.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise self._unfit(error) from error
        for operation in self._graph.get_operations():
            size = operation.outputs[0].shape.num_elements()
            if size is None or size > MAX_ELEMENTS:
                raise EffconvError(f"{path}: {operation.name} would have {size or 'an unknown number of'} elements")

    @staticmethod
    def image_size(path: Path, config: Config) -> tuple[int, int] | None:
        """(height, width) of the images the file is for; None where it takes any. Raises EffconvError."""
        file = GraphFile(path)
        return _image_size(file, config, _paired(file, config))

    def activations(self, kind: Kind) -> Iterator[Activation]:
        """Every paired layer, in the order of the layer table. Raises EffconvError where TensorFlow cannot go on."""
        tensorflow = import_tensorflow()
        settings = tensorflow.compat.v1.ConfigProto()
        # The operations as they are written: nothing folded into each other or computed beforehand.
        settings.graph_options.rewrite_options.disable_meta_optimizer = True
        settings.graph_options.optimizer_options.opt_level = -1
        images = nhwc(self.images)
        session = tensorflow.compat.v1.Session(graph=self._graph, config=settings)
        try:
            for group in self._groups():
                arrays = session.run([self._tensors[key] for key in group], {f"{IMAGES}:0": images})
                for key in group:
                    yield Activation(key, arrays.pop(0))
        except tensorflow.errors.OpError as error:
            raise self._unfit(error) from error
        finally:
            session.close()

    def _groups(self) -> Iterator[list[str]]:
        group: list[str] = []
        total = 0
        for key, tensor in self._tensors.items():
            size = 4 * tensor.shape.num_elements()
            if group and total + size > GROUP_BYTES:
                yield group
                group, total = [], 0
            group.append(key)
            total += size
        yield group

    def _tensor(self, key: str, name: str) -> Any:
        tensor = self._graph.get_tensor_by_name(name)
        if tensor.dtype != "float32" or tensor.shape.rank != 4:
            raise EffconvError(
                f"{self._path}: {name}, paired with layer {key}, is {tensor.dtype.name} {tensor.shape}; expected "
                f"float32 and four axes"
            )
        return tensor

    def _unfit(self, error: Exception) -> EffconvError:
        reason = str(error).splitlines()[0]
        return EffconvError(
            f"{self._path}: TensorFlow cannot run it as a {self.config.name} on images {self.images.shape} ({reason})"
        )


def landmarks(config: Config) -> frozenset[str]:
    """The layers that every graph of the model has under names we know."""
    known = (layer.key for layer in layers(config) if layer.operation or layer.consumer)
    return frozenset(key for key in known if LANDMARK.fullmatch(key))


def _paired(file: GraphFile, config: Config) -> dict[str, str]:
    """{our key: tensor}, in the order of the layer table. Raises EffconvError where stem or outputs are missing."""
    stem = f"{config.backbone}/stem/conv2d/Conv2D"
    prefixes = sorted(name.removesuffix(stem) for name in file.nodes if f"/{name}".endswith(f"/{stem}"))[:MAX_COPIES]
    if not prefixes:
        others = sorted(name for name in file.nodes if name.endswith("stem/conv2d/Conv2D"))[:MAX_COPIES]
        found = f" ({', '.join(others)} is there: another model?)" if others else ""
        raise EffconvError(f"{file.path}: no operation {stem}, the first of {config.name}{found}")
    choices = [(prefix, _paired_behind(file, prefix, config)) for prefix in prefixes]
    prefix, pairs = max(choices, key=lambda choice: len(choice[1]))
    node = file.nodes[prefix + stem]
    if (
        node.attributes["T"].type != FLOAT32
        or node.attributes["data_format"].s not in (b"", b"NHWC")
        or not node.inputs
    ):
        raise EffconvError(f"{file.path}: {prefix}{stem} is not a float32 convolution with channels last (NHWC)")
    for kind in ("class", "box"):
        if not any(key.startswith(f"{kind}_head.predict[") for key in pairs):
            raise EffconvError(f"{file.path}: no operation {prefix}{kind}_net/{kind}-predict/BiasAdd, an output")
    return pairs


def _paired_behind(file: GraphFile, prefix: str, config: Config) -> dict[str, str]:
    names = {}
    for name in file.nodes:
        if name.startswith(prefix):
            official = name.removeprefix(prefix)
            for pattern, replacement in TABLE_NAMES:
                official = pattern.sub(replacement, official)
            names[official] = name
    pairs = {}
    for layer in layers(config):
        if layer.operation and layer.operation in names:
            pairs[layer.key] = f"{names[layer.operation]}:0"
        elif layer.consumer and layer.consumer in names:
            given = file.nodes[names[layer.consumer]].inputs[:1]
            if given and file.nodes[file.origin(given[0])].operation not in REARRANGING:
                pairs[layer.key] = file.resolve(given[0])
    return pairs


def _image_size(file: GraphFile, config: Config, pairs: dict[str, str]) -> tuple[int, int] | None:
    """The image size that the first upsampling to the lowest level is written for, where it is written for one."""
    index = [node.level for node in cell_nodes(config, 0)].index(config.min_level)
    for key, tensor in pairs.items():
        node = file.nodes[tensor.rpartition(":")[0]]
        if key.startswith(f"bifpn.cells.0.nodes.{index}.resamples.") and node.operation == "ResizeNearestNeighbor":
            size = file.constant(node.inputs[1], [2]) if len(node.inputs) == 2 else None
            if size is None:
                return None
            level = int(size[0]), int(size[1])
            if _level_size(config.image_size, config) == level:
                return config.image_size
            return level[0] << config.min_level, level[1] << config.min_level
    return None


def _level_size(image_size: tuple[int, int], config: Config) -> tuple[int, int]:
    return -(-image_size[0] // (1 << config.min_level)), -(-image_size[1] // (1 << config.min_level))


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
