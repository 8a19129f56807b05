"""What a file of weights holds, and what models there are: plain values for `inspect` and `models`."""

import math
from pathlib import Path
from typing import Any

from ..effdet_torch.config import VARIANTS, Config
from ..errors import CheckpointError
from .apply import (
    EMA_SUFFIX,
    TWICE_NOTICE,
    average_name,
    averages_are_initial,
    examine_averages,
    looks_like,
    written_twice,
)
from .fingerprints import identify
from .formats.onnx_graph import Graph
from .namings.containers import unwrapped
from .namings.recognition import fits, naming_of
from .rules import Rule, rules
from .sources import Checkpoint, Container, checksum
from .weights_file import StoredWeights
from .zoo import RELEASES

NO_CHECKSUMS = "no checksums in it"
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of batch norms, in a state dict


def inspect_checkpoint(checkpoint: Checkpoint, *, checked: bool) -> dict[str, Any]:
    """Container, counts, moving averages, the architectures it fits and the release it is, and every tensor.

    Reads the index alone, except for `.h5`. `checked` says whether the data was verified before, which is reported.
    """
    checksums = checkpoint.checksums()
    configs = looks_like(checkpoint.variables, checkpoint.container)
    table = rules(configs[0]) if configs else ()
    released = identify(checkpoint).released
    by = "" if checked else ", by its index"
    data = "every checksum holds" if checked else "not checked"
    return {
        "path": str(checkpoint.path),
        "container": checkpoint.container.value,
        "data": NO_CHECKSUMS if checkpoint.container is Container.H5 else data,
        "variables": len(checkpoint.variables),
        "moving_averages": _averages(checkpoint, table),
        "fits": _fits(configs),
        "release": f"{released.label}{by}" if released else "none that is known",
        "fingerprint": checkpoint.fingerprint(),
        "tensors": [
            {"name": name, "dtype": dtype, "shape": list(shape), "crc32c": f"{checksums[name]:08x}"}
            for name, (dtype, shape) in checkpoint.variables.items()
        ],
    }


def inspect_weights(path: Path, stored: StoredWeights, *, checked: bool) -> dict[str, Any]:
    """Kind, counts, the model it says it is of, those it fits, and every tensor, of a `.safetensors` or `.pth` file.

    `checked` says whether checksums were compared when it was read, where it has any.
    """
    content = unwrapped(stored.state)
    shapes = {key: array.shape for key, array in content.tensors.items()}
    try:
        naming = naming_of(shapes, str(path))
    except CheckpointError as error:
        names, configs = str(error).removeprefix(f"{path}: "), []
    else:
        names, configs = naming.port, fits(shapes, naming)
    data = "every checksum holds" if checked else "not checked"
    trainable = {key: array for key, array in stored.state.items() if key.rpartition(".")[2] not in STATISTICS}
    return {
        "path": str(path),
        "container": f"PyTorch weights ({path.suffix})",
        "data": NO_CHECKSUMS if stored.checksums is None else data,
        "variables": len(stored.state),
        "parameters": sum(array.size for array in trainable.values()),
        "names": names,
        "model": stored.config.label if stored.config else "not named",
        "fits": _fits(configs),
        "around": content.notices,
        "tensors": [
            {
                "name": key,
                "dtype": array.dtype.name,
                "shape": list(array.shape),
                "crc32c": f"{checksum(array):08x}",
            }
            for key, array in stored.state.items()
        ],
    }


def inspect_graph(path: Path, graph: Graph) -> dict[str, Any]:
    """Kind, counts, inputs and outputs, and every tensor of an ONNX graph, whose values are not read."""
    return {
        "path": str(path),
        "container": f"ONNX graph, opset {graph.opset}, {graph.nodes} nodes, made by {graph.producer}",
        "data": NO_CHECKSUMS,
        "variables": len(graph.tensors),
        # Norms are part of the kernels in such a graph, and sizes are constants of it.
        "values": sum(math.prod(shape) for _, _, shape in graph.tensors),
        "model": graph.model or "not named",
        "inputs": graph.inputs,
        "outputs": graph.outputs,
        "tensors": [
            {"name": name, "dtype": dtype, "shape": list(shape), "crc32c": None} for name, dtype, shape in graph.tensors
        ],
    }


def _fits(configs: list[Config]) -> list[str]:
    return [f"{config.label} ({parameter_count(config):,} parameters)" for config in configs] or ["no official model"]


def _averages(checkpoint: Checkpoint, table: tuple[Rule, ...]) -> str:
    if not table:
        count = sum(name.endswith(EMA_SUFFIX) for name in checkpoint.variables)
        return f"{count} by name"
    count = sum(average_name(checkpoint.container, rule) in checkpoint.variables for rule in table)
    if count and averages_are_initial(checkpoint, table):
        return f"{count}, never filled: all hold their initial values"
    found = f"{count} of {len(table)}"
    if count < len(table):
        return found
    averages = examine_averages(checkpoint, table)
    notes = [TWICE_NOTICE] if written_twice(checkpoint, averages) else []
    return "; ".join([found, *notes, *([f"implausible: {averages.warning}"] if averages.warning else [])])


def parameter_count(config: Config) -> int:
    """Trainable parameters of a model: everything but the moving statistics of batch norms."""
    table = rules(config)
    return sum(math.prod(rule.shape) for rule in table if not rule.tf.endswith(("/moving_mean", "/moving_variance")))


def list_models() -> list[dict[str, Any]]:
    """One row per official model: name, input size (height, width), parameters, generations released (newest first)."""
    return [
        {
            "model": name,
            "image_size": list(config.image_size),
            "parameters": parameter_count(config),
            "generations": [release.generation for release in RELEASES if release.model == name],
        }
        for name, config in VARIANTS.items()
    ]
