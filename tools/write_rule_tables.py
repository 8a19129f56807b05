"""Write the expanded rule table of every official model to tests/golden/, one line per tensor.

    python tools/write_rule_tables.py

`rules/` has TensorFlow's names, `namings/` other ports': whole for a model of each structure, as digests for the rest.
Run it after a deliberate change of names, and read the difference: these tables are the mapping that effconv promises.
A changed naming is compared with the ports' own networks anew by `record_ports.py`.
"""

import hashlib
from pathlib import Path

from effconv.convert.namings.naming import as_text as naming_text
from effconv.convert.namings.recognition import EFFCONV, NAMINGS
from effconv.convert.rules import as_text, rules
from effconv.effdet_torch.config import OFFICIAL_NAMES, VARIANTS, Config

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
WHOLE = ("efficientdet-d0", "efficientdet-d7x", "efficientdet-lite0")
DIGESTS = "digests.txt"


def naming_table(config: Config) -> str:
    """Where every port that has the model keeps each of its tensors."""
    ports = [naming for naming in NAMINGS.values() if naming is not EFFCONV and naming.models(config)]
    return naming_text(ports, config)


def naming_tables() -> dict[str, str]:
    """{file: its text} of `namings/`."""
    tables = {model: naming_table(VARIANTS[model]) for model in OFFICIAL_NAMES}
    digests = [f"{hashlib.sha256(text.encode()).hexdigest()}  {model}\n" for model, text in tables.items()]
    return {f"{model}.txt": tables[model] for model in WHOLE} | {DIGESTS: "".join(digests)}


if __name__ == "__main__":
    for folder in ("rules", "namings"):
        (GOLDEN / folder).mkdir(parents=True, exist_ok=True)
    for model in OFFICIAL_NAMES:
        (GOLDEN / "rules" / f"{model}.txt").write_text(as_text(rules(VARIANTS[model])))
    for name, text in naming_tables().items():
        (GOLDEN / "namings" / name).write_text(text)
