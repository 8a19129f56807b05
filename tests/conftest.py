"""What every test file needs: where the goldens are, and why a test is skipped."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from scripts import load_script

# Set before torch is imported anywhere: a second thread collapses beside a busy neighbour.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Of whoever runs the tests, as the processes of pytest-xdist are told: sentences would be wrapped to fit it.
os.environ.pop("COLUMNS", None)

pytest_plugins = ["loopback", "evaluation_runs", "browsers", "training_runs"]

REPOSITORY = Path(__file__).resolve().parent.parent
GOLDEN = REPOSITORY / "tests" / "golden"
SHARED = Path(os.environ.get("EFFCONV_SHARED", REPOSITORY.parent / "shared"))
TINY = ("tiny-swish", "tiny-sum8", "tiny-lite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine cannot run."""
    missing = {
        "tf": None if importlib.util.find_spec("tensorflow") else "TensorFlow is not installed: pip install tensorflow",
        "shared": None if SHARED.is_dir() else "the shared goldens are not beside this checkout (EFFCONV_SHARED)",
    }
    for item in items:
        for marker, reason in missing.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of goldens beside the checkout; tests that use it are marked `shared`."""
    return SHARED


@pytest.fixture(scope="session", params=TINY)
def tiny(request: pytest.FixtureRequest) -> Path:
    """Each tiny model's folder: config.json, checkpoints in three containers, recorded activations."""
    return GOLDEN / str(request.param)


@pytest.fixture(scope="session")
def full_size(shared: Path, tmp_path_factory: pytest.TempPathFactory):
    """`full_size("efficientdet-d0")`: the folder of a full-size golden checkpoint, rebuilt once a session.

    Written by our own writer, which test_bundle.py shows to write the bytes TensorFlow would.
    """
    from effconv.convert.formats.bundle import write_bundle

    built: dict[str, Path] = {}

    def build(model: str) -> Path:
        if model not in built:
            recipes = load_script(shared / "goldens" / "make_checkpoint.py")
            averages = recipes.ema_values(shared / "goldens" / "recipes" / f"{model}.npz")
            tensors = recipes.raw_values(averages)
            tensors |= {f"{name}/ExponentialMovingAverage": value for name, value in averages.items()}
            tensors["global_step"] = np.array(0, np.int64)
            folder = tmp_path_factory.mktemp("full_size") / model
            folder.mkdir()
            index, data = write_bundle(tensors)
            (folder / "model.index").write_bytes(index)
            (folder / "model.data-00000-of-00001").write_bytes(b"".join(array.tobytes() for array in data))
            built[model] = folder
        return built[model]

    return build
