"""Other ports' own networks beside ours: names, shapes, outputs in float64, and what planted faults of a naming do.

    python tools/record_ports.py FOLDER

FOLDER has the ports' sources (`port_classes.py` says where from). Weights are random, as large as trained ones: with
PyTorch's default initialisation the levels' outputs are so alike that exchanged tensors hide. Writes
results/measured/ports.json.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from port_classes import find_sources, pad_pools_as_tensorflow_does, shapes_of, size_of
from subjects import MEASURED
from torch import Tensor, nn

from effconv.convert.layout import Array
from effconv.convert.namings.naming import Naming, places
from effconv.convert.namings.tensors import digest, expected, from_port, to_port
from effconv.convert.rules import Rule, rules
from effconv.effdet_torch.architecture import cell_nodes
from effconv.effdet_torch.config import OFFICIAL_NAMES, VARIANTS, Config
from effconv.effdet_torch.model import EfficientDet
from effconv.effdet_torch.ops import BatchNorm
from effconv.parity.provenance import provenance
from effconv.parity.referee.ports import PORTS, Port, filled, flat
from effconv.parity.rendering.record import write_record

SEED = 0
# Of |difference|, of the largest output: rounding in float64 is below 1e-11 on the deepest; a lost bias, an exchanged
# level or another epsilon is above 1e-5.
LIMIT = 1e-9


def random_state(config: Config) -> dict[str, Array]:
    """Weights with He's spread, in float64, every other tensor away from its initial value too."""
    random = np.random.default_rng(SEED)
    return {rule.torch: np.asarray(_value(rule, random)) for rule in rules(config)}


def calibrated(config: Config, images: Tensor) -> EfficientDet:
    """Our network in float64 with these weights, its moving statistics those of `images`.

    So every layer's values are of the size of trained ones: without that they grow from layer to layer, and what a
    head adds is lost in them.
    """
    network = EfficientDet(config).double().train()
    network.load_state_dict({key: torch.from_numpy(value) for key, value in random_state(config).items()})
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.momentum = 1.0
    with torch.inference_mode():
        network(images)
    return network.eval()


def _value(rule: Rule, random: np.random.Generator) -> Array:
    shape = rule.layout.torch_shape(rule.shape)
    if rule.torch.endswith("running_var") or rule.tf.endswith("gamma"):
        return random.uniform(0.8, 1.2, shape)
    if "edge_weights" in rule.torch:
        return random.uniform(0.2, 2, shape)
    spread = np.sqrt(2 / np.prod(shape[1:])) if "kernel" in rule.tf else 0.3
    return random.standard_normal(shape) * spread


def error(port: Port, network: nn.Module, ours: tuple[Tensor, Tensor], images: Tensor) -> float:
    """The larger of class and box outputs' |difference|, each of its largest value."""
    classes, boxes = port.outputs(network, images)
    pairs = ((classes, ours[0].sigmoid() if port.activated else ours[0]), (boxes, ours[1]))
    return max(float((theirs - own).abs().max() / own.abs().max()) for theirs, own in pairs)


def faults(naming: Naming, config: Config, theirs: Mapping[str, Array], ours: Mapping[str, Array]) -> dict[str, Any]:
    """{mistake of a naming: the state dict it gives}; every name and shape stays, so that only outputs tell."""
    keys = {place.ours: place for place in places(naming, config)}
    # The two nodes of level 4: of the top-down path and of the bottom-up one.
    top_down, bottom_up = (
        f"bifpn.cells.0.nodes.{index}." for index, node in enumerate(cell_nodes(config, 0)) if node.level == 4
    )

    def exchanged(first: str, second: str) -> dict[str, Array]:
        one, other = keys[first].theirs, keys[second].theirs
        return {**theirs, one: theirs[other], other: theirs[one]}

    found = {
        "level and repeat of a head's norm exchanged": exchanged("box_head.norms.0.4.bias", "box_head.norms.1.3.bias"),
        "two nodes' projections exchanged": exchanged(
            f"{top_down}resamples.0.conv.weight", f"{bottom_up}resamples.0.conv.weight"
        ),
        "depthwise kernels of two nodes exchanged": exchanged(
            f"{top_down}conv.depthwise.weight", f"{bottom_up}conv.depthwise.weight"
        ),
        "a batch norm's epsilon": {
            key: value + 1e-3 if key == keys["backbone.stem.norm.running_var"].theirs else value
            for key, value in theirs.items()
        },
    }
    weights = f"{bottom_up}fuse.edge_weights.0"
    if weights in keys:
        vector = keys[weights].theirs
        found["a node's edge weights in another order"] = {**theirs, vector: theirs[vector][::-1]}
    mean, bias = f"{top_down}norm.running_mean", f"{top_down}conv.pointwise.bias"
    key = keys[mean if keys[bias].lacking else bias].theirs
    found["a redundant bias lost"] = {**theirs, key: ours[mean] if keys[bias].lacking else np.zeros_like(theirs[key])}
    return found


def measure(port: Port, config: Config) -> dict[str, Any]:
    """The row of one model of a port."""
    naming, size = port.naming, size_of(config)
    network = port.build(config, (size, size))
    shapes = shapes_of(network)
    images = torch.from_numpy(np.random.default_rng(SEED).standard_normal((2, 3, size, size)))
    own = calibrated(config, images)
    ours = {key: value.numpy() for key, value in own.state_dict().items()}
    theirs = to_port(ours, naming, config)
    with torch.inference_mode():
        classes, boxes = own(images)
        outputs = flat(classes, config.num_classes), flat(boxes, 4)
        apart = error(port, filled(network, theirs), outputs, images)
        planted = {
            name: error(port, filled(network, wrong), outputs, images)
            for name, wrong in faults(naming, config, theirs, ours).items()
        }
    row = {
        "port": naming.port,
        "model": config.name,
        "tensors": len(shapes),
        "names_and_shapes": digest(shapes),
        "agree": expected(naming, config) == shapes,
        "images": [2, 3, size, size],
        "error": apart,
        "holds": apart < LIMIT,
        "faults": planted,
        "round_trip": round_trip(naming, config),
    }
    print(row["port"], row["model"], row["agree"], f"{apart:.1e}", planted, row["round_trip"], flush=True)
    return row


def round_trip(naming: Naming, config: Config) -> dict[str, int]:
    """How many tensors come back from the port's naming, in float32, equal to the bit, and how many otherwise."""
    ours = {key: value.astype(np.float32) for key, value in random_state(config).items()}
    theirs = to_port(ours, naming, config)
    back = from_port(theirs, naming, config)
    again = to_port(back, naming, config)
    return {
        "equal": sum(np.array_equal(back[key], ours[key]) for key in ours),
        "rounded_or_folded": sum(not np.array_equal(back[key], ours[key]) for key in ours),
        "theirs_equal": sum(np.array_equal(again[key], theirs[key]) for key in theirs),
        "theirs": len(theirs),
    }


def main(folder: str) -> None:
    """Write the record, anew after each model."""
    find_sources(Path(folder))
    rows: list[dict[str, Any]] = []
    pad_pools_as_tensorflow_does()
    for port in PORTS.values():
        for config in (VARIANTS[name] for name in OFFICIAL_NAMES):
            if port.models(config):
                rows.append(measure(port, config))
                result = {
                    "what": "other ports' own networks filled by effconv's namings, beside effconv's, in float64",
                    "command": "python tools/record_ports.py FOLDER",
                    "limit": LIMIT,
                    "provenance": provenance() | {"seed": SEED, "dtype": "float64"},
                    "rows": rows,
                }
                write_record(result, MEASURED / "ports.json")


if __name__ == "__main__":
    main(*sys.argv[1:])
