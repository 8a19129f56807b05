"""TensorFlow loads what is written for its Keras implementation: by names, by order, and by attributes of objects."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effconv.convert.conversion import convert
from effconv.convert.formats.object_graph import SavedVariable, object_graph
from effconv.convert.keras_containers import write_h5, write_object_checkpoint
from effconv.convert.rules import Rule, rules
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
    inputs = outputs = keras.Input((1,))
    for layer, names in layers.items():
        made = keras.layers.Identity(name=layer)
        for name in names:
            variable = name.removesuffix(":0")
            trained = not variable.rpartition("/")[2].startswith("moving_")
            made.add_weight(
                name=variable.replace("/", "."), shape=shapes[variable], initializer="zeros", trainable=trained
            )
        outputs = made(outputs)
    return keras.Model(inputs, outputs)


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


def objects(table: tuple[Rule, ...]) -> tuple[Any, dict[str, Any]]:
    """An object with the official model's attributes and lists, and its variables, all zero, by object path."""
    import tensorflow as tf

    variables = {rule.object_path: tf.Variable(np.zeros(rule.shape, np.float32)) for rule in table}

    def put_together(prefix: str) -> Any:
        below = {path.removeprefix(prefix).partition("/")[0] for path in variables if path.startswith(prefix)}
        made = {
            name: variables[prefix + name] if prefix + name in variables else put_together(f"{prefix}{name}/")
            for name in below
        }
        if all(name.isdigit() for name in made):
            # Where the official model has an object without weights between others, the list is longer.
            return [made.get(str(number), tf.Module()) for number in range(max(map(int, made)) + 1)]
        module = tf.Module()
        for name, value in made.items():
            setattr(module, name, value)
        return module

    return put_together(""), variables


def test_tensorflow_restores_the_objects(tiny: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    config = config_of(tiny)
    state = changed_state(tiny, config)
    write_object_checkpoint(state, config, tmp_path / "x", "a test")
    root, variables = objects(rules(config))
    prefix = tf.train.latest_checkpoint(str(tmp_path))
    assert prefix == str(tmp_path / "x")
    tf.train.Checkpoint(root=root).read(prefix).assert_consumed()
    reader = tf.train.load_checkpoint(prefix)
    assert set(reader.get_variable_to_shape_map()) == {OBJECT_GRAPH, *(rule.object_key for rule in rules(config))}
    for rule in rules(config):
        stored = rule.layout.to_tensorflow(state[rule.torch]).tobytes()
        assert variables[rule.object_path].numpy().tobytes() == stored, rule.tf
        assert np.asarray(reader.get_tensor(rule.object_key)).tobytes() == stored, rule.tf


def test_tensorflow_parses_the_graph_and_its_own_says_the_same(tiny: Path) -> None:
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph
    import tensorflow as tf

    def walk(graph: Any) -> dict[str, tuple[str, str, str]]:
        found, waiting, seen = {}, [("", 0)], set()
        while waiting:
            path, number = waiting.pop()
            node = graph.nodes[number]
            for each in node.attributes:
                found[path] = (each.name, each.full_name, each.checkpoint_key)
            if number not in seen:
                seen.add(number)
                waiting += [(f"{path}/{child.local_name}".lstrip("/"), child.node_id) for child in node.children]
        return found

    table = rules(config_of(tiny))
    ours = object_graph(SavedVariable(rule.object_path, rule.tf, rule.object_key) for rule in table)
    theirs = tf.train.load_checkpoint(str(tiny / "keras")).get_tensor(OBJECT_GRAPH)
    parsed = TrackableObjectGraph.FromString(ours)
    assert parsed.SerializeToString(deterministic=True) == ours
    assert all(node.has_checkpoint_values.value for node in parsed.nodes)
    assert walk(parsed) == {
        path.removeprefix("root/"): row for path, row in walk(TrackableObjectGraph.FromString(theirs)).items()
    }


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
