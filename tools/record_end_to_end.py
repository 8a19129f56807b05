"""From JPEG bytes to detections on the real images beside the checkout: TensorFlow's pipeline and ours, stage by stage.

    python tools/record_end_to_end.py ../shared

Writes results/measured/end-to-end.json; exits with status 1 when a stage does not hold. Takes about four minutes.
"""

import sys
import tempfile
from pathlib import Path

from subjects import MEASURED, subjects

from effconv.parity.comparison.end_to_end_job import compare_end_to_end
from effconv.parity.comparison.end_to_end_record import EndToEndRow, EndToEndTable
from effconv.parity.comparison.subject import Choice
from effconv.parity.provenance import provenance
from effconv.parity.rendering.record import write_record

MODELS = ("efficientdet-d0", "efficientdet-lite0")


def main(shared: str) -> None:
    """Write the record, a row per model."""
    rows: list[EndToEndRow] = []
    command = "python tools/record_end_to_end.py ../shared"
    with tempfile.TemporaryDirectory() as folder:
        found = {each.config.name: each for each in subjects(Path(shared), Path(folder))}
        for name in MODELS:
            choice = Choice(model=name, checkpoint=found[name].checkpoint)
            compared = compare_end_to_end(choice, _no_download, command, Path(shared) / "coco" / "val2017_66")
            rows.append(compared.record.row)
            print(name, compared.record.row.found.verdict, sep=": ", flush=True)
    result = EndToEndTable(
        what="image bytes to detections: the official pipeline in TensorFlow and effconv, every stage",
        command=command,
        provenance=provenance() | {"dtype": "float32"},
        rows=tuple(rows),
    )
    write_record(result.plain(), MEASURED / "end-to-end.json")
    sys.exit(not all(row.found.ok for row in rows))


def _no_download(model: str) -> Path:
    raise AssertionError(f"{model}: the checkpoint is at hand")


if __name__ == "__main__":
    main(*sys.argv[1:])
