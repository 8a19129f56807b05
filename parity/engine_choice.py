"""The engine of a run that leaves it to effconv: chosen by measured facts, or that of the run it goes on with."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

from ..convert.zoo import cache_folder
from ..effdet_torch.engines.choice import AUTO, Choice, choose_engine
from ..effdet_torch.engines.engines import ENGINES
from ..effdet_torch.model import EfficientDet
from .distributed import Group


def graphs_folder() -> Path:
    """Where runs keep the graphs that they exported."""
    return cache_folder() / "graphs"


def settle_engine(
    asked: str,
    model: EfficientDet,
    size: tuple[int, int],
    images: int,
    say: Callable[[str], None],
    *,
    device: str,
    precision: str = "float32",
    earlier: Path | None = None,
    group: Group | None = None,
) -> str:
    """What runs `model` on `images` inputs (3, *size) where `asked` is AUTO, and why, to `say`; else what is asked for.

    `earlier` is a file of the run to go on with, whose first line says what that is (`finished.Parts`,
    `finished_rows.FinishedRows`): its results belong together with others of the same engine alone. The choice of a
    group that is joined is its first process's, because graphs may be kept or removed while another one looks.
    """
    if asked != AUTO:
        return asked
    choice = choose_engine(model, size, images, graphs_folder(), device=device, precision=precision)
    if engine := _engine_of(earlier):
        choice = Choice(engine, "as in the run that is gone on with")
    if group:
        choice = group.share(choice)
    if group is None or group.rank == 0:
        say(f"engine: {choice.engine}, {choice.reason}")
    return choice.engine


def _engine_of(earlier: Path | None) -> str | None:
    """None, too, for a file that is none of a run's: what reads the rest of it says so."""
    if earlier is None:
        return None
    with contextlib.suppress(OSError, ValueError, AttributeError), earlier.open("rb") as file:
        engine = json.loads(file.readline()).get("engine")
        return engine if engine in ENGINES else None
    return None
