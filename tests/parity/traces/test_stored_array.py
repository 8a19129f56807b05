"""Arrays of any size go into a trace, and come out as they were."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from effconv.parity.traces.stored_array import read_array, write_array


def test_an_array_may_be_larger_than_a_plain_archive_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is 2 GiB; here 1000 bytes are."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    array = np.arange(1000, dtype=np.float32)
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        write_array(archive, "values", array)
    with zipfile.ZipFile(path) as archive:
        assert np.array_equal(read_array(archive, "values", path.stat().st_size), array)
