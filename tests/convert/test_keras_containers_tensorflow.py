"""TensorFlow loads what is written for its Keras implementation: by names, by order, and by attributes of objects."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effconv.convert.conversion import convert
from effconv.convert.formats.object_graph import object_graph
from effconv.convert.keras_containers import saved_variables, write_h5, write_object_checkpoint
from effconv.convert.rules import rules
from effconv.convert.sources import OBJECT_GRAPH, open_checkpoint
from effconv.effdet_torch.config import Config
from tensors import config_of, read_all

pytestmark = pytest.mark.tf


def changed_state(tiny: Path, config: Config) -> dict[str, np.ndarray]:
    """The golden values, each of them another than the files beside them hold."""
    return {key: -value for key, value in convert(open_checkpoint(tiny), config).state.items()}


def in_groups(tiny: Path) -> dict[str, list[str]]:
    """{top layer: names of its weights} as the official model saved them, in its order."""
    import h5py

    with h5py.File(tiny / f"{tiny.name}.h5") as file:
        return {layer: [str(name) for name in file[layer].attrs["weight_names"]] for layer in file.attrs["layer_names"]}


def keras_model(tiny: Path, layers: dict[str, list[str]]) -> Any:
    """A Keras model of layers with the official names, each with its weights in the official order."""
    import keras

    shapes = {rule.tf: rule.shape for rule in rules(config_of(tiny))}

    class Layer(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self, name: str, weights: list[str]):
            super().__init__(name=name)
            for each in weights:
                variable = each.removesuffix(":0")
                trained = not variable.rpartition("/")[2].startswith("moving_")
                keras_name = variable.replace("/", ".")
                self.add_weight(name=keras_name, shape=shapes[variable], initializer="zeros", trainable=trained)

        def call(self, inputs: Any) -> Any:
            return inputs

    return keras.Sequential([keras.Input((1,)), *(Layer(name, weights) for name, weights in layers.items())])


@pytest.mark.parametrize("by_name", [False, True])
def test_keras_loads_the_h5(tiny: Path, by_name: bool, tmp_path: Path) -> None:
    config = config_of(tiny)
    state = changed_state(tiny, config)
    write_h5(state, config, tmp_path / "x.h5", {})
    layers = in_groups(tiny)
    if by_name:  # the order of the layers then plays no part
        layers = dict(reversed(layers.items()))
    model = keras_model(tiny, layers)
    model.load_weights(tmp_path / "x.h5", by_name=by_name)
    stored = {rule.tf: rule.layout.to_tensorflow(state[rule.torch]) for rule in rules(config)}
    count = 0
    for layer, names in layers.items():
        held = model.get_layer(layer)
        loaded = [*held.trainable_weights, *held.non_trainable_weights]
        assert [variable.name for variable in loaded] == [name.removesuffix(":0").replace("/", ".") for name in names]
        for name, variable in zip(names, loaded, strict=True):
            assert variable.numpy().tobytes() == stored[name.removesuffix(":0")].tobytes(), name
            count += 1
    assert count == len(stored)


def reached(graph: bytes) -> dict[str, tuple[str, str, str]]:
    """{attributes from the root with / between: variable} of a stored graph, read by TensorFlow's own message class."""
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    nodes = TrackableObjectGraph.FromString(graph).nodes
    found: dict[str, tuple[str, str, str]] = {}
    waiting, seen = [("", 0)], set()
    while waiting:
        path, number = waiting.pop()
        for each in nodes[number].attributes:
            found[path] = (each.name, each.full_name, each.checkpoint_key)
        if number not in seen:  # the root is an attribute of itself
            seen.add(number)
            waiting += [(f"{path}/{child.local_name}".lstrip("/"), child.node_id) for child in nodes[number].children]
    return found


def official_graph(tiny: Path) -> bytes:
    import tensorflow as tf

    graph: bytes = tf.train.load_checkpoint(str(tiny / "keras")).get_tensor(OBJECT_GRAPH)
    return graph


def objects(paths: dict[str, Any]) -> Any:
    """An object from which attributes and lists lead to the given values."""
    import tensorflow as tf

    below: dict[str, dict[str, Any]] = {}
    for path, value in paths.items():
        name, _, rest = path.partition("/")
        below.setdefault(name, {})[rest] = value
    made = {name: values[""] if "" in values else objects(values) for name, values in below.items()}
    if all(name.isdigit() for name in made):  # an object without weights between others has its place in the list
        return [made.get(str(number), tf.Module()) for number in range(max(map(int, made)) + 1)]
    module = tf.Module()
    for name, value in made.items():
        setattr(module, name, value)
    return module


def test_tensorflow_restores_the_objects(tiny: Path, tmp_path: Path) -> None:
    """Objects with the attributes that the official model was saved with."""
    import tensorflow as tf

    config = config_of(tiny)
    state = changed_state(tiny, config)
    write_object_checkpoint(state, config, tmp_path / "x", "a test")
    variables = {rule.object_key: tf.Variable(np.zeros(rule.shape, np.float32)) for rule in rules(config)}
    root = objects({path: variables[key] for path, (_, _, key) in reached(official_graph(tiny)).items()})
    prefix = tf.train.latest_checkpoint(str(tmp_path))
    assert prefix == str(tmp_path / "x")
    tf.train.Checkpoint(root=root).read(prefix).assert_consumed()
    reader = tf.train.load_checkpoint(prefix)
    assert set(reader.get_variable_to_shape_map()) == {OBJECT_GRAPH, *variables}
    for rule in rules(config):
        stored = rule.layout.to_tensorflow(state[rule.torch]).tobytes()
        assert variables[rule.object_key].numpy().tobytes() == stored, rule.tf
        assert np.asarray(reader.get_tensor(rule.object_key)).tobytes() == stored, rule.tf


def test_the_graph_is_the_official_models(tiny: Path) -> None:
    """Every way to every variable; objects without any, such as settings, are in the official file alone."""
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    ours = object_graph(saved_variables(config_of(tiny)))
    parsed = TrackableObjectGraph.FromString(ours)
    assert parsed.SerializeToString(deterministic=True) == ours
    assert all(node.has_checkpoint_values.value for node in parsed.nodes)
    assert reached(ours) == reached(official_graph(tiny))


def test_tensorflow_writes_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    config = config_of(tiny)
    write_object_checkpoint(changed_state(tiny, config), config, tmp_path / "ours", "a test")
    reader = tf.train.load_checkpoint(str(tmp_path / "ours"))
    tensors = {**read_all(tmp_path / "ours"), OBJECT_GRAPH: reader.get_tensor(OBJECT_GRAPH)}
    names = sorted(tensors)
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "theirs"),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(tensors[name]) for name in names],
    )
    for ending in (".index", ".data-00000-of-00001"):
        assert (tmp_path / f"ours{ending}").read_bytes() == (tmp_path / f"theirs{ending}").read_bytes()
