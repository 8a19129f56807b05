"""The demonstration: a small official-format checkpoint that ships with effconv, converted and compared by layer."""

import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from ..convert.conversion import Conversion, convert, write_weights
from ..convert.sources import open_checkpoint
from ..effdet_torch.config import get_config
from ..errors import EffconvError
from ..loading import load
from .compare import Row, compare_with_golden
from .golden import Golden
from .limits import golden_limit

SHIPPED = Path(__file__).resolve().parent.parent / "tests" / "golden" / "tiny-swish"


class Demo(NamedTuple):
    """What the demonstration did and found."""

    conversion: Conversion
    rows: list[Row]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every layer is within its limit."""
        return all(row.ok for row in self.rows)

    def record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        worst = max(self.rows, key=lambda row: row.error)
        return {
            "model": self.conversion.config.name,
            "verdict": "all layers hold" if self.ok else "some layer diverges",
            "variables_converted": len(self.conversion.plan.rows),
            "variables_dropped": len(self.conversion.plan.dropped),
            "layers": len(self.rows),
            "layers_within_limit": sum(row.ok for row in self.rows),
            "worst_layer": worst.name,
            "worst_error": worst.error,
            "limit": worst.limit,
            "seconds": self.seconds,
        }


def run_demo() -> Demo:
    """Convert the shipped checkpoint to a weights file, load that, and compare every layer with the recorded one.

    Raises EffconvError when the files that ship with effconv are not there.
    """
    start = time.perf_counter()
    if not SHIPPED.is_dir():
        raise EffconvError(
            f"{SHIPPED}: the demonstration's files are missing; install effconv from a complete checkout"
        )
    config = get_config(str(SHIPPED / "config.json"))
    conversion = convert(open_checkpoint(SHIPPED), config)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / f"{config.name}.safetensors"
        write_weights(conversion, weights)
        model = load(weights)
        golden = Golden(SHIPPED / "activations_128x160.npz")
        rows = compare_with_golden(model, golden, golden_limit(config.name))
    return Demo(conversion, rows, time.perf_counter() - start)
