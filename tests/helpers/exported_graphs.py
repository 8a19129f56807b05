"""Files as the official code exports them, made from tiny checkpoints: frozen graphs and SavedModels.

The network is `OfficialNetwork`, which names its operations as the official graph does. Before it come what an export
has before it: raw images, normalised inside.
"""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from effconv.effdet_torch.config import Config, get_config
from effconv.parity.reference.network import OfficialNetwork, import_tensorflow
from effconv.parity.traces.official import official_variables

Change = Callable[[Any], None]  # of a GraphDef, in place

SWISH = Path(__file__).resolve().parent.parent / "golden" / "tiny-swish"
CONFIG = get_config(str(SWISH / "config.json"))


def frozen_graph(
    path: Path, checkpoint: Path = SWISH, config: Config = CONFIG, prefix: str = "", change: Change | None = None
) -> Path:
    """Write a frozen graph, after `change`: uint8 `image_arrays`, the network under `prefix`, and `detections`."""
    data = _serialized(checkpoint, config, prefix)
    if change:
        definition = import_tensorflow().compat.v1.GraphDef.FromString(data)
        change(definition)
        data = definition.SerializeToString()
    path.write_bytes(data)
    return path


@cache
def _serialized(checkpoint: Path, config: Config, prefix: str) -> bytes:
    variables, _ = official_variables(checkpoint, config)
    graph = import_tensorflow().Graph()
    with graph.as_default():
        _network(config, OfficialNetwork(config, variables, "float32"), prefix)
    return bytes(graph.as_graph_def().SerializeToString())


def name_as_keras(definition: Any) -> None:
    """Rename operations as the official Keras model's export has them."""
    pools: dict[str, str] = {}

    def renamed(name: str) -> str:
        name = re.sub(r"^(\w+_net/[\w-]+)_(\d)/separable_conv2d(/depthwise)?$", r"\1/separable_conv2d_\2\3", name)
        name = re.sub(r"^(\w+_net/[\w-]+)_(\d)/BiasAdd$", r"\1/BiasAdd_\2", name)
        if name.endswith("max_pooling2d/MaxPool"):
            number = f"_{len(pools)}" if pools else ""
            pools.setdefault(name, name.replace("max_pooling2d", f"max_pooling2d{number}"))
        return pools.get(name, name)

    for node in definition.node:
        node.name = renamed(node.name)
    for node in definition.node:
        node.input[:] = [renamed(name) for name in node.input]


def saved_model(folder: Path, checkpoint: Path = SWISH, config: Config = CONFIG) -> Path:
    """A SavedModel of TensorFlow 2, as `tf2/infer_lib.py` writes it: functions, and variables in an object graph."""
    tensorflow = import_tensorflow()
    variables, _ = official_variables(checkpoint, config)
    module = tensorflow.Module()
    module.weights = [tensorflow.Variable(array, name=name) for name, array in variables.items()]
    network = OfficialNetwork(config, {}, "float32")

    @tensorflow.function(
        autograph=False, input_signature=[tensorflow.TensorSpec((1, *config.image_size, 3), "uint8", "images")]
    )
    def serve(images: Any) -> Any:
        network.variables = dict(zip(variables, module.weights, strict=True))
        return _run(config, network, images)

    module.serve = serve
    tensorflow.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    return folder


def older_saved_model(folder: Path, checkpoint: Path = SWISH, config: Config = CONFIG) -> Path:
    """A SavedModel of TensorFlow 1, as `inference.py` writes it: one graph, and variables by their names."""
    version_one = import_tensorflow().compat.v1
    arrays, _ = official_variables(checkpoint, config)
    graph = version_one.Graph()
    with graph.as_default(), version_one.Session() as session:
        network = OfficialNetwork(config, {}, "float32")
        network.variables = {
            name: version_one.Variable(array, name=name, use_resource=True) for name, array in arrays.items()
        }
        images, detections = _network(config, network, "")
        session.run(version_one.global_variables_initializer())
        version_one.saved_model.simple_save(session, str(folder), {"image_arrays": images}, {"detections": detections})
    return folder


def _network(config: Config, network: OfficialNetwork, prefix: str) -> tuple[Any, Any]:
    tensorflow = import_tensorflow()
    images = tensorflow.compat.v1.placeholder("uint8", (1, *config.image_size, 3), "image_arrays")
    with images.graph.name_scope(prefix):
        total = _run(config, network, images)
    return images, tensorflow.identity(total, "detections")


def _run(config: Config, network: OfficialNetwork, images: Any) -> Any:
    tensorflow = import_tensorflow()
    normalised = (tensorflow.cast(images, "float32") - config.mean) / config.std
    for _ in network.run(normalised):
        pass
    return tensorflow.add_n([tensorflow.reduce_sum(output) for output in network.outputs.values()])
