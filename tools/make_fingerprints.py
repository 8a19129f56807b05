"""Make results/fingerprints/*.json from recorded indexes of released checkpoints.

    python tools/make_fingerprints.py FOLDER_WITH_JSON_INDEXES

Each input is a JSON object {model, generation, variables: {name: {crc32c_masked, ...}}}, as read from the `.index` file
of a released archive.
"""

import json
import sys
from pathlib import Path

from effconv.strict_json import json_text

EMA_SUFFIX = "/ExponentialMovingAverage"
OUTPUT = Path(__file__).resolve().parent.parent / "results" / "fingerprints"


def main(folder: str) -> None:
    """Write one fingerprint per `*.json` in `folder`."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for source in sorted(Path(folder).glob("*.json")):
        data = json.loads(source.read_text())
        checksums = {name: f"{entry['crc32c_masked']:08x}" for name, entry in data["variables"].items()}
        averaged = {name.removesuffix(EMA_SUFFIX) for name in checksums if name.endswith(EMA_SUFFIX)}
        record = {
            "label": source.stem,
            "model": data["model"],
            "generation": data["generation"].split(" ")[0],
            "generation_is": data["generation_is"],
            "source": "index file of the released archive; values are masked crc32c: variable: [raw, moving average]",
            "other": {
                name: crc for name, crc in checksums.items() if name not in averaged and not name.endswith(EMA_SUFFIX)
            },
            "variables": {name: [checksums[name], checksums[name + EMA_SUFFIX]] for name in sorted(averaged)},
        }
        output = OUTPUT / source.name
        output.write_text(json_text(record, indent=0) + "\n")
        print(f"{output.name}: {len(record['variables'])} variables")


if __name__ == "__main__":
    main(*sys.argv[1:])
