"""Write the expanded rule table of every official model to tests/golden/rules/, one line per tensor.

    python tools/write_rule_tables.py

Run it after a deliberate change of names, and read the difference: these tables are the mapping that effconv promises.
"""

from pathlib import Path

from effconv.convert.rules import as_text, rules
from effconv.effdet_torch.config import OFFICIAL_NAMES, VARIANTS

OUTPUT = Path(__file__).resolve().parent.parent / "tests" / "golden" / "rules"


if __name__ == "__main__":
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for model in OFFICIAL_NAMES:
        (OUTPUT / f"{model}.txt").write_text(as_text(rules(VARIANTS[model])))
