"""What training scripts put around a state dict is taken off, and said."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from effconv.cli import main
from effconv.convert.layout import Array
from effconv.convert.namings.containers import described_anchors, unwrapped
from effconv.convert.namings.recognition import NAMINGS
from effconv.convert.namings.tensors import expected
from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.postprocessing.anchors import legacy_anchors, official_anchors

LITE0 = get_config("lite0")


@pytest.fixture(scope="module")
def plain() -> dict[str, Array]:
    return {key: np.ones(shape, np.float32) for key, shape in expected(NAMINGS["effdet"], LITE0).items()}


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model."])
def test_prefixes_and_counters(plain: dict[str, Array], prefix: str) -> None:
    counter = {"backbone.bn1.num_batches_tracked": np.int64(7)}
    content = unwrapped({f"{prefix}{key}": value for key, value in (plain | counter).items()})
    assert content.tensors.keys() == plain.keys()
    assert content.notices == []


@pytest.mark.parametrize("kind", ["legacy", "official"])
def test_a_detbench_s_anchors_are_told_apart(plain: dict[str, Array], kind: str) -> None:
    make = {"legacy": legacy_anchors, "official": official_anchors}[kind]
    stored = {f"model.{key}": value for key, value in plain.items()} | {"anchors.boxes": make(LITE0).numpy()}
    content = unwrapped(stored)
    assert content.tensors.keys() == plain.keys()
    assert content.notices == [f"19,206 anchors that are kept in it are left out: the {kind} ones"]


def test_anchors_say_image_size_scale_and_aspects() -> None:
    for config in (LITE0, get_config("d7"), get_config("d7x"), replace(get_config("d0"), image_size=(384, 640))):
        described = described_anchors(official_anchors(config).numpy())
        assert described == {
            "image_size": list(config.image_size),
            "anchor_scale": config.anchor_scale,
            "aspects": list(config.aspect_ratios),
            "set": "official",
        }
        legacy = described_anchors(legacy_anchors(config).numpy())
        assert legacy == {**described, "set": "legacy"}


def test_the_manifest_has_what_they_say(plain: dict[str, Array], tmp_path: Path) -> None:
    tensors = {f"model.{key}": torch.from_numpy(value) for key, value in plain.items()}
    torch.save({**tensors, "anchors.boxes": legacy_anchors(LITE0)}, tmp_path / "bench.pth")
    done = CliRunner().invoke(main, ["convert", str(tmp_path / "bench.pth"), "-o", str(tmp_path / "x.safetensors")])
    assert done.exit_code == 0, done.output
    source = json.loads((tmp_path / "x.manifest.json").read_text())["source"]
    said = {"image_size": [320, 320], "anchor_scale": 3.0, "aspects": [1.0, 2.0, 0.5], "set": "legacy"}
    assert source == {"file": "bench.pth", "anchors": said}


def test_other_types_are_taken_as_float32_and_said(plain: dict[str, Array]) -> None:
    half, wide = ("backbone.bn1.weight", np.float16), ("backbone.bn1.bias", np.float64)
    content = unwrapped(plain | {key: np.full(32, 0.1, kind) for key, kind in (half, wide)})
    assert {value.dtype.name for value in content.tensors.values()} == {"float32"}
    assert content.tensors["backbone.bn1.weight"][0] == np.float32(np.float16(0.1))
    assert content.notices == ["2 tensors of float16 and float64 are taken as float32"]


def test_a_strange_file_keeps_every_tensor() -> None:
    stored = {"model.weight": np.ones(2, np.float32), "anchors.boxes": np.ones((3, 4), np.float32)}
    assert unwrapped(stored).tensors.keys() == {"weight", "anchors.boxes"}
    mixed = {"model.weight": np.ones(2, np.float32), "other.weight": np.ones(2, np.float32)}
    assert unwrapped(mixed).tensors.keys() == mixed.keys()
