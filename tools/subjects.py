"""The models that are measured: their checkpoints, image sizes, and the official code's recorded runs of them."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from effconv.convert.formats.bundle import write_bundle
from effconv.effdet_torch.config import Config, get_config

REPOSITORY = Path(__file__).resolve().parent.parent
GOLDEN = REPOSITORY / "tests" / "golden"
MEASURED = REPOSITORY / "results" / "measured"
TINY = ("tiny-swish", "tiny-sum8", "tiny-lite")
FULL_SIZE = {"efficientdet-d0": ((512, 512), (384, 640), (385, 513)), "efficientdet-d1": (), "efficientdet-lite0": ()}


class Subject(NamedTuple):
    """A model with its checkpoint, one image size (H, W), and the official code's record there, if any."""

    config: Config
    checkpoint: Path
    size: tuple[int, int]
    record: Path | None


def subjects(shared: Path, folder: Path) -> Iterator[Subject]:
    """Every model and size. Full-size checkpoints are rebuilt from the recipes in `shared` into `folder`."""
    for name in TINY:
        config = get_config(str(GOLDEN / name / "config.json"))
        yield from _sizes(config, GOLDEN / name, (config.image_size,), shared)
    for name, sizes in FULL_SIZE.items():
        config = get_config(name)
        yield from _sizes(config, rebuild(name, shared, folder), sizes or (config.image_size,), shared)


def _sizes(config: Config, checkpoint: Path, sizes: tuple[tuple[int, int], ...], shared: Path) -> Iterator[Subject]:
    for size in sizes:
        record = shared / "goldens" / f"act_{config.name}_{size[0]}x{size[1]}.npz"
        yield Subject(config, checkpoint, size, record if record.exists() else None)


def rebuild(name: str, shared: Path, folder: Path) -> Path:
    """A full-size golden checkpoint, written by our own writer into `folder`."""
    spec = importlib.util.spec_from_file_location("make_checkpoint", shared / "goldens" / "make_checkpoint.py")
    recipes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipes)
    averages = recipes.ema_values(shared / "goldens" / "recipes" / f"{name}.npz")
    tensors = recipes.raw_values(averages)
    tensors |= {f"{variable}/ExponentialMovingAverage": value for variable, value in averages.items()}
    tensors["global_step"] = np.array(0, np.int64)
    target = folder / name
    target.mkdir()
    index, data = write_bundle(tensors)
    (target / "model.index").write_bytes(index)
    with (target / "model.data-00000-of-00001").open("wb") as file:
        file.writelines(array.tobytes() for array in data)
    return target
