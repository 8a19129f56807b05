"""Peak memory and time of `effconv parity --layerwise`, in a process of its own: `effconv bench parity`."""

import json
import tempfile

from ...effdet_torch.config import get_config
from ...errors import EffconvError
from ..comparison.records import ComparisonRecord
from ..provenance import provenance, version
from .process import SEED, make_checkpoint, run_process
from .process_records import ComparisonCostRecord

PEAK_BYTES_PROMISED = {"efficientdet-d7x": 10e9}


def measure_comparison(model: str) -> ComparisonCostRecord:
    """Peak memory and seconds of one layer-by-layer comparison of `model` at its own size, batch 1, both sides.

    Raises EffconvError without TensorFlow, and when a layer differs: then there is something else to look at first.
    """
    config = get_config(model)
    if not version("tensorflow"):
        raise EffconvError("the other side of the comparison is TensorFlow: pip install tensorflow")
    with tempfile.TemporaryDirectory() as folder:
        make_checkpoint(model, f"{folder}/model")
        run = run_process("effconv.cli", "parity", "--layerwise", "--model", model, "--ckpt", folder, "--json")
    record = ComparisonRecord.read(json.loads(run.output))
    return ComparisonCostRecord(
        what="effconv parity --layerwise: TensorFlow and PyTorch, float32 and float64, local and accumulated",
        command=f"effconv bench parity --model {model}",
        model=config.name,
        checkpoint=f"official variables, random values, seed {SEED}",
        image_shape=record.images.shape,
        layers=len(record.rows),
        verdict=record.verdict,
        seconds=run.seconds,
        peak_bytes=run.peak_bytes,
        peak_bytes_promised=PEAK_BYTES_PROMISED.get(config.name),
        provenance=provenance() | {"dtype": "float32 and float64", "seed": SEED},
    )
