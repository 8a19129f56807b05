"""Other projects' ways from a picture's bytes to detections beside TensorFlow's, stage by stage.

    python tools/record_stages.py FOLDER COCO

FOLDER has the ports' sources (`port_classes.py` says where from), COCO is a dataset folder with PICTURES. The outputs
of heads are made up from the pictures' true boxes (`stage_outputs.py`). Writes results/measured/ports-stages.json;
exits with status 1 where effconv's own stages differ. Takes a minute.
"""

import importlib.metadata
import sys
from pathlib import Path

import torch
from port_classes import find_sources, stand_in_for_nms
from record_referee import versions
from subjects import MEASURED
from torch import Tensor

from effconv.effdet_torch.config import Config, get_config
from effconv.effdet_torch.preprocessing.decode import read_encoded
from effconv.effdet_torch.preprocessing.preprocess import Preprocessor
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.provenance import provenance
from effconv.parity.referee.compare_stages import StageComparison, compare_stages, stage_lines
from effconv.parity.referee.port_adapters import ADAPTERS, port_stages
from effconv.parity.referee.port_stages import Levels
from effconv.parity.referee.stage_outputs import outputs_of_objects
from effconv.parity.referee.stage_records import PortStagesRecord
from effconv.parity.rendering.record import write_record

MODELS = ("d0", "d1")
PICTURES = ("000000397133.jpg", "000000166918.jpg")  # wide and high, with 19 and 45 objects


def compared(name: str, config: Config, path: Path, boxes: Tensor, classes: list[int]) -> StageComparison:
    """A port's stages on a picture with these objects, boxes in its pixels."""
    encoded = read_encoded(path)
    _, scale = Preprocessor(config)(encoded)

    def heads(image: Tensor) -> tuple[Levels, Levels]:
        return outputs_of_objects(config, boxes / float(scale), classes)

    stages, changes = port_stages(name, config)
    found = compare_stages(stages, config, heads, encoded, path.name, changes)
    print("\n".join(stage_lines(found)), flush=True)
    return found


def main(folder: str, coco: str) -> None:
    """Write the record."""
    find_sources(Path(folder))
    stands_in = stand_in_for_nms()
    dataset = read_dataset(Path(coco))
    found = []
    for model in MODELS:
        config = get_config(model)
        for picture in PICTURES:
            (image,) = (each for each in dataset.images if each.path.name == picture)
            objects = [each for each in dataset.annotations if each["image_id"] == image.id and not each["iscrowd"]]
            corners = [(y, x, y + height, x + width) for x, y, width, height in (each["bbox"] for each in objects)]
            classes = [each["category_id"] - 1 for each in objects]
            found += [compared(name, config, image.path, torch.tensor(corners), classes) for name in ADAPTERS]
    opencv, tensorflow = (importlib.metadata.version(name) for name in ("opencv-python-headless", "tensorflow"))
    record = PortStagesRecord(
        what="other projects' decoding, input, anchors, boxes and detections beside TensorFlow's, stage by stage",
        command="python tools/record_stages.py FOLDER COCO",
        outputs="Outputs of heads are made up from the picture's true boxes, with noise, as trained ones look.",
        versions={**versions(Path(folder)), "OpenCV": opencv, "tensorflow": tensorflow},
        stands_in=("torchvision's operator `nms` in plain Python, since its compiled one did not load",) * stands_in,
        comparisons=tuple(found),
        provenance=provenance(),
    )
    write_record(record.plain(), MEASURED / "ports-stages.json")
    sys.exit(0 if all(row.effconv <= row.limit for each in found for row in each.rows) else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
