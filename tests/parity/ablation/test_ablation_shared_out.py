"""`effconv ablate` by several processes, killed and resumed, and with values in place of names."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from effconv.cli import main
from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.postprocessing.anchors import legacy_anchors, official_anchors
from effconv.errors import EffconvError
from effconv.parity.ablation import run as ablation_run
from effconv.parity.ablation.finished_rows import FinishedRows
from effconv.parity.ablation.options import anchors_of
from effconv.parity.ablation.record import AblationRow
from effconv.parity.ablation.run import Ablator
from effconv.parity.evaluation.pipeline import Settings, build
from effconv.parity.mistakes.pipeline import Setup
from small_images import write_pictures
from tiny_models import load_tiny

SWISH = Path(__file__).parents[2] / "golden" / "tiny-swish"
FEW = ("--resamples", "40")
CHANGES = ("--no-same-maxpool", "--hard-nms-0.5", "--argmax")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


def arguments(pictures: Path, *options: object) -> list[str]:
    words = ["ablate", "--coco", pictures, "--ckpt", SWISH, "--model", SWISH / "config.json", "--batch", 3]
    return [str(each) for each in (*words, "--limit", 4, *options)]


def run(pictures: Path, *options: object) -> Result:
    return CliRunner().invoke(main, arguments(pictures, *FEW, *options))


def figures(record: dict[str, Any]) -> list[Any]:
    return [(row["name"], row["metrics"], row["differences"]) for row in record["rows"]]


@pytest.fixture(scope="module")
def whole(pictures: Path) -> dict[str, Any]:
    """The record of a run by one process without a break."""
    result = run(pictures, *CHANGES, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def test_two_processes_find_what_one_does(pictures: Path, whole: dict[str, Any]) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "effconv.cli", *arguments(pictures, *CHANGES, *FEW, "--json")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)  # of the first process alone
    assert record["processes"] == 2
    assert figures(record) == figures(whole)


def test_a_split_gap_by_two_processes(pictures: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = arguments(pictures, "--waterfall", "--argmax", "--hard-nms-0.5", "--json")
    command = [*launcher, "-m", "effconv.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    alone = json.loads(CliRunner().invoke(main, words).stdout)
    assert {name: json.loads(done.stdout)[name] for name in ("gap", "parts")} == {
        name: alone[name] for name in ("gap", "parts")
    }


def test_a_killed_run_goes_on(
    pictures: Path, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    computed: list[str] = []
    row = Ablator.row

    def counting(self: Ablator, ablations: Any, report: Any = None) -> AblationRow:
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(ablation_run.row_name(ablations))
        return row(self, ablations, report)

    monkeypatch.setattr(Ablator, "row", counting)
    assert run(pictures, *CHANGES, "--record", path).exit_code != 0
    assert not path.exists()
    rows = path.with_name("record.json.rows")
    assert len(rows.read_bytes().splitlines()) == 3  # what the run is, and two rows
    with rows.open("ab") as file:
        file.write(b'{"name": "cut sho')
    computed.clear()
    assert run(pictures, *CHANGES, "--record", path, "--resume").exit_code == 0
    assert computed == ["hard-nms-0.5", "argmax"]
    assert figures(json.loads(path.read_text())) == figures(whole)
    assert not rows.exists()


def test_rows_of_another_run_are_refused(pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    kept = FinishedRows(path, {"seed": 7})
    kept.start()
    result = run(pictures, "--argmax", "--record", path, "--resume")
    assert (result.exit_code, "is of another run" in result.stderr) == (2, True), result.output
    kept.path.write_bytes(b"no JSON\n")
    result = run(pictures, "--argmax", "--record", path, "--resume")
    assert (result.exit_code, "damaged" in result.stderr) == (2, True), result.output
    result = run(pictures, "--argmax", "--resume")
    assert (result.exit_code, "--resume: name the --record" in result.stderr) == (2, True), result.output


def test_only_what_the_baseline_needs_is_kept(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    row = Ablator.row

    def looking(self: Ablator, ablations: Any, report: Any = None) -> AblationRow:
        found = row(self, ablations, report)
        seen.append(len(list(self.cache.folder.iterdir())))
        return found

    monkeypatch.setattr(Ablator, "row", looking)
    options = ("--no-same-maxpool", "--pillow-decode", "--int8-weights")
    assert run(pictures, *options).exit_code == 0
    assert seen == [3, 3, 3, 3]
    seen.clear()
    assert run(pictures, *options, "--cache", tmp_path).exit_code == 0
    assert seen == [3, 5, 8, 10]


def test_values_in_place_of_names(pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "wide.json"
    path.write_text(json.dumps({"aspect_ratios": [1.0, 4.0, 0.25]}))
    options = ("--min-score", 0.05, "--min-score", 0.4, "--anchors", "legacy", "--anchors", "official")
    result = run(pictures, *options, "--anchors", path, "--legacy-anchors", "--min-score-0.05", "--json")
    assert result.exit_code == 0, result.stderr
    rows = {row["name"]: row for row in json.loads(result.stdout)["rows"][1:]}
    metrics = {name: row["metrics"] for name, row in rows.items()}
    assert metrics["anchors-legacy"] == metrics["legacy-anchors"]
    assert metrics["anchors-wide"] != metrics["anchors-official"]
    assert {each["difference"] for each in rows["anchors-official"]["differences"].values()} == {0.0}


def boxes_of(choice: object) -> np.ndarray:
    model = load_tiny(SWISH)
    changed = anchors_of(str(choice)).apply(Setup(model=model, pipeline=build(model.config, Settings())))
    return changed.pipeline.postprocess.anchors(model.config).numpy()


def test_anchors_from_a_file(tmp_path: Path) -> None:
    config, path = get_config(str(SWISH / "config.json")), tmp_path / "anchors.json"
    official = official_anchors(config).numpy()
    assert np.array_equal(boxes_of("official"), official)
    assert np.array_equal(boxes_of("legacy"), legacy_anchors(config).numpy())
    path.write_text(json.dumps({"anchor_scale": config.anchor_scale * 2, "num_scales": config.num_scales}))
    assert np.allclose(
        boxes_of(path)[:, 2:] - boxes_of(path)[:, :2], 2 * (official[:, 2:] - official[:, :2]), rtol=1e-5
    )
    path.write_text(json.dumps({"boxes": (official + 1).tolist()}))
    assert torch.equal(torch.from_numpy(boxes_of(path)), torch.from_numpy(official + 1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "expected"),
        ('{"ratios": [1]}', "expected"),
        ('{"boxes": [[0, 0, 1]]}', "positive and finite"),
        ('{"boxes": [[0, 0, 1, 0]]}', "positive and finite"),
        ('{"boxes": [[0, 0, 1, NaN]]}', "positive and finite"),
        ('{"boxes": [[0, 0, 1, 1]]}', "1 anchors, but tiny-swish predicts"),
        ('{"aspect_ratios": [1.0]}', "anchors, but tiny-swish predicts"),
        ('{"aspect_ratios": [1.0, -2.0, 0.5]}', "positive and finite"),
        ('{"aspect_ratios": "abc"}', "expected"),
        ('{"num_scales": 1e9}', "positive and finite"),
    ],
)
def test_files_that_hold_no_anchors(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "anchors.json"
    path.write_text(content)
    with pytest.raises(EffconvError, match=message) as error:
        boxes_of(path)
    assert "anchors.json" in str(error.value)


def test_no_such_anchors(tmp_path: Path) -> None:
    with pytest.raises(EffconvError, match="neither official nor legacy, nor a file"):
        boxes_of(tmp_path / "nothing.json")
