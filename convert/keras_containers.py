"""A state dict to the containers of google/automl's Keras implementation: `.h5` weights, and TF2 object checkpoints.

Both hold one set of weights, which the official code loads as it is: the moving averages, where there were any.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..effdet_torch.architecture import extra_levels
from ..effdet_torch.config import Config, config_to_dict
from ..strict_json import json_text
from ..version import __version__
from .apply import apply_inverse
from .conversion import manifest_path, rule_table_digest, write_checkpoint_files
from .formats.object_graph import SavedVariable, object_graph
from .layout import Array
from .output import replacing
from .rules import Rule, rules
from .sources import OBJECT_GRAPH, Container


def write_object_checkpoint(state: Mapping[str, Array], config: Config, prefix: Path, source: str) -> list[Path]:
    """Write a TF2 object checkpoint at `prefix`, as the Keras model's `save_weights(prefix)` does; the paths written.

    `state` is a whole state dict in PyTorch's layout, `source` its name in errors. Raises as `write_checkpoint` does.
    """
    arrays = apply_inverse(state, config, source)
    tensors = {rule.object_key: arrays[rule.tf] for rule in rules(config)}
    return write_checkpoint_files({OBJECT_GRAPH: object_graph(saved_variables(config)), **tensors}, prefix)


def saved_variables(config: Config) -> Iterator[SavedVariable]:
    """Every way by which the Keras model's attributes lead to its variables."""
    for rule in rules(config):
        yield SavedVariable(rule.object_path, rule.tf, rule.object_key)
        node, _, name = rule.object_path.rpartition("/")
        if name.startswith("WSM"):  # google/automl `FNode.build` keeps a node's edge weights in a list, too
            yield SavedVariable(f"{node}/vars/{name.partition('_')[2] or 0}", rule.tf, rule.object_key)


def write_h5(state: Mapping[str, Array], config: Config, path: Path, source: Mapping[str, Any]) -> list[Path]:
    """Write `path` as the Keras model's `save_weights(path)` does, and a manifest beside it; the paths written.

    `state` is a whole state dict in PyTorch's layout; `source` says in the manifest where it is from. The same weights
    give the same bytes. Raises as `write_checkpoint` does.
    """
    from .formats.hdf5 import weights_file  # h5py is slow to import

    arrays = apply_inverse(state, config, str(path))
    layers = {
        layer: {f"{rule.tf}:0": arrays[rule.tf] for rule in weights} for layer, weights in h5_layers(config).items()
    }
    described = {
        "effconv": __version__,
        "model": config.name,
        "file": path.name,
        "container": Container.H5.value,
        "source": dict(source),
        "rule_table": rule_table_digest(config),
        "tensors": len(arrays),
        "config": config_to_dict(config),
    }
    manifest = manifest_path(path)
    with replacing(path, manifest) as (weights_place, manifest_place):
        weights_place.write_bytes(weights_file(layers))
        manifest_place.write_text(json_text(described, indent=1) + "\n", encoding="utf-8")
    return [path, manifest]


def h5_layers(config: Config) -> dict[str, list[Rule]]:
    """{top layer: its weights}, both in the order of the Keras model, by which a file is loaded without names.

    Source: google/automl `tf2/efficientdet_keras.py: EfficientDetNet.__init__` for the layers. Of a layer's weights
    Keras lists those that are trained first, each object's own before those of its attributes, attributes as they were
    first set: the backbone's blocks before its stem.
    """
    pooled = [f"resample_p{level}" for level in extra_levels(config)]  # those without weights are layers, too
    layers: dict[str, list[Rule]] = {
        name: [] for name in (config.backbone, *pooled, "fpn_cells", "class_net", "box_net")
    }
    for rule in rules(config):
        layers[rule.tf.split("/")[0]].append(rule)
    return {name: _in_keras_order(name, weights) for name, weights in layers.items()}


def _in_keras_order(layer: str, weights: list[Rule]) -> list[Rule]:
    nodes: dict[str, int] = {}  # of the BiFPN: `fpn_cells/cell_0/fnode0`

    def place(rule: Rule) -> tuple[bool, bool, int, bool]:
        parts = rule.tf.split("/")
        node = nodes.setdefault("/".join(parts[:3]), len(nodes)) if layer == "fpn_cells" else 0
        own = parts[-1].startswith("WSM")  # a node's edge weights, where others' are of its layers
        return parts[-1].startswith("moving_"), parts[1] == "stem", node, not own

    return sorted(weights, key=place)
