"""Peak memory and time of `effconv parity --layerwise`, in a process of its own: `effconv bench parity`."""

import json
import tempfile
from typing import Any

from ...effdet_torch.config import get_config
from ...errors import EffconvError
from ..provenance import provenance, version
from .conversion import MEGABYTE, run_process

PEAK_BYTES_PROMISED = {"efficientdet-d7x": 10e9}
SEED = 0

# A checkpoint of the released kind with random weights, scaled so that activations stay near one through any depth: a
# figure of memory or time does not depend on the weights, but infinities would end the comparison early.
MAKE_CHECKPOINT = """
import sys
from pathlib import Path
import numpy as np
from effconv.convert.conversion import write_checkpoint
from effconv.convert.rules import rules
from effconv.effdet_torch.config import get_config
config, random = get_config(sys.argv[1]), np.random.default_rng(int(sys.argv[3]))
def value(rule):
    shape = rule.layout.torch_shape(rule.shape)
    if rule.tf.endswith(("gamma", "moving_variance")):
        return random.uniform(0.8, 1.2, shape).astype(np.float32)
    spread = np.sqrt(np.prod(shape[1:])) if "kernel" in rule.tf else 10
    return (random.standard_normal(shape) / spread).astype(np.float32)
state = {rule.torch: value(rule) for rule in rules(config)}
write_checkpoint(state, state, config, Path(sys.argv[2]), "random values")
"""


def measure_comparison(model: str) -> dict[str, Any]:
    """Peak memory and seconds of one layer-by-layer comparison of `model` at its own size, batch 1, both sides.

    Raises EffconvError without TensorFlow, and when a layer differs: then there is something else to look at first.
    """
    config = get_config(model)
    if not version("tensorflow"):
        raise EffconvError("the other side of the comparison is TensorFlow: pip install 'effconv[tf]'")
    with tempfile.TemporaryDirectory() as folder:
        run_process(["-c", MAKE_CHECKPOINT, model, f"{folder}/model", str(SEED)])
        command = ["-m", "effconv.cli", "parity", "--layerwise", "--model", model, "--ckpt", folder, "--json"]
        run = run_process(command)
    record = json.loads(run.output)
    promised = PEAK_BYTES_PROMISED.get(config.name)
    return {
        "what": "effconv parity --layerwise: TensorFlow and PyTorch, float32 and float64, local and accumulated",
        "command": f"effconv bench parity --model {model}",
        "model": config.name,
        "checkpoint": f"official variables, random values, seed {SEED}",
        "image_shape": record["images"]["shape"],
        "layers": len(record["rows"]),
        "verdict": record["verdict"],
        "seconds": run.seconds,
        "peak_bytes": run.peak_bytes,
        "peak_bytes_promised": promised,
        "provenance": provenance() | {"dtype": "float32 and float64", "seed": SEED},
    }


def comparison_cost(record: dict[str, Any]) -> str:
    """The measurement in a sentence."""
    promised = record["peak_bytes_promised"]
    bar = f" (promised: below {promised / MEGABYTE / 1000:.0f} GB)" if promised else ""
    height, width = record["image_shape"][2:]
    return (
        f"{record['model']} at {height}x{width}, both sides: {record['layers']} layers compared in "
        f"{record['seconds'] / 60:.1f} minutes, peak memory {record['peak_bytes'] / MEGABYTE / 1000:.1f} GB{bar}"
    )
