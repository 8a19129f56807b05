"""Exported graphs are kept under all that they depend on, and read again only as they were written."""

from pathlib import Path

import pytest
import torch

from effconv.effdet_torch.engines import graphs
from effconv.effdet_torch.engines.graphs import exported_graph
from effconv.effdet_torch.model import EfficientDet
from kept_runs import SWISH
from tiny_models import load_tiny

GRAPH = bytes(range(256)) * 8


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Sizes that were exported; the export itself takes seconds."""
    made: list[tuple[int, int]] = []

    def export(model: EfficientDet, path: Path, size: tuple[int, int]) -> None:
        made.append(size)
        path.write_bytes(GRAPH)

    monkeypatch.setattr(graphs, "export_onnx", export)
    return made


def test_a_graph_is_exported_once(tmp_path: Path, exports: list[tuple[int, int]]) -> None:
    model = load_tiny(SWISH)
    for _ in range(3):
        assert exported_graph(model, (64, 64), tmp_path / "graphs") == GRAPH
    assert exports == [(64, 64)]
    assert len([*(tmp_path / "graphs").iterdir()]) == 1


def test_other_weights_and_sizes_are_other_graphs(tmp_path: Path, exports: list[tuple[int, int]]) -> None:
    model, other = load_tiny(SWISH), load_tiny(SWISH)
    with torch.no_grad():
        next(other.parameters()).flatten()[0] += 1e-6
    for given, size in ((model, (64, 64)), (other, (64, 64)), (model, (64, 96))):
        exported_graph(given, size, tmp_path)
    assert exports == [(64, 64), (64, 64), (64, 96)]


def test_other_code_makes_another_graph(
    tmp_path: Path, exports: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout that is brought up to date has the same version, and may export otherwise."""
    model = load_tiny(SWISH)
    exported_graph(model, (64, 64), tmp_path)
    monkeypatch.setattr(graphs, "package_code_digest", lambda: "other")
    exported_graph(model, (64, 64), tmp_path)
    assert len(exports) == 2


@pytest.mark.parametrize("spoilt", [GRAPH[:-1], GRAPH[:-1] + b"x", b""], ids=["cut off", "a byte", "empty"])
def test_a_spoilt_graph_is_made_anew(spoilt: bytes, tmp_path: Path, exports: list[tuple[int, int]]) -> None:
    model = load_tiny(SWISH)
    exported_graph(model, (64, 64), tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(spoilt)
    assert exported_graph(model, (64, 64), tmp_path) == GRAPH
    assert len(exports) == 2
    assert kept.read_bytes() == GRAPH


def test_a_folder_that_cannot_be_written_to_is_done_without(tmp_path: Path, exports: list[tuple[int, int]]) -> None:
    (tmp_path / "file").write_text("")
    assert exported_graph(load_tiny(SWISH), (64, 64), tmp_path / "file" / "graphs") == GRAPH
    assert len(exports) == 1
