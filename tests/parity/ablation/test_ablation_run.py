"""`effconv ablate`: each change acts at its own stage and nowhere before, and what is cached is what is computed."""

import dataclasses
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from effconv.cli import main
from effconv.effdet_torch.preprocessing.decode import read_encoded
from effconv.errors import EffconvError
from effconv.parity.ablation import output_cache
from effconv.parity.ablation import run as run_module
from effconv.parity.ablation.record import AblationRecord, AblationRow
from effconv.parity.ablation.registry import ABLATIONS, STAGES, Ablation, fitting
from effconv.parity.ablation.run import Ablator, run_study
from effconv.parity.ablation.study import Study
from effconv.parity.ablation.table import ablation_line, ablation_table
from effconv.parity.distributed import Group
from effconv.parity.evaluation.coco import METRICS, evaluate
from effconv.parity.evaluation.pipeline import Settings, build
from effconv.parity.mistakes.network import CHANGES
from effconv.parity.mistakes.pipeline import Setup
from small_images import write_pictures
from tiny_models import load_tiny

SWISH = Path(__file__).parents[2] / "golden" / "tiny-swish"
# What these make of the tiny model's outputs on small noise is what the official steps make of them.
WITHOUT_EFFECT_HERE = {
    "no-clip",  # the official evaluation clips nothing
    "clamped-sizes",  # no code is that large
    "top-3000",
    "top-1000",
    "min-score-0.001",  # the official evaluation drops as much
    "min-score-0.01",  # the best 100 are all above it
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def study(pictures: Path) -> Study:
    return Study(coco=pictures, model=str(SWISH / "config.json"), checkpoint=SWISH, batch=3, resamples=50, limit=4)


@pytest.fixture(scope="module")
def ablator(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Ablator:
    return Ablator(study, tmp_path_factory.mktemp("cache"), Group())


@pytest.fixture(scope="module")
def baseline(ablator: Ablator) -> AblationRow:
    return ablator.row([])


def test_a_batch_is_no_larger_than_the_number_of_images(study: Study, tmp_path: Path) -> None:
    assert Ablator(dataclasses.replace(study, batch=300), tmp_path, Group()).cache.batch == study.limit


def test_names_and_stages() -> None:
    assert set(CHANGES) < set(ABLATIONS)
    assert {each.stage for each in ABLATIONS.values()} == set(STAGES)
    model = load_tiny(SWISH)
    setup = Setup(model=model, pipeline=build(model.config, Settings()))
    found = [each.name for each in fitting(setup)]
    assert "relu6-activation" in found  # which a model with swish has what it takes for
    assert "swish-activation" not in found
    assert "raw-weights" not in found  # there are none to take
    assert "raw-weights" in [each.name for each in fitting(dataclasses.replace(setup, raw=model))]
    places = [STAGES.index(ABLATIONS[name].stage) for name in found]
    assert places == sorted(places)


def test_nothing_changed_is_the_baseline(ablator: Ablator, baseline: AblationRow) -> None:
    none = Ablation("none", "network", "nothing", lambda setup: setup)
    row = ablator.row([none])  # a changed network runs as it is written, the baseline in its fast form
    assert (row.engine, baseline.engine) == ("eager", "fast")
    assert AblationRow.read(row.plain()) == row
    assert row.metrics == baseline.metrics
    assert {tuple(each) for each in row.differences.values()} == {(0.0, 0.0, 0.0, 1.0, "no effect")}


def test_the_baseline_is_the_evaluation(ablator: Ablator, baseline: AblationRow, pictures: Path) -> None:
    arguments = ["eval", "--coco", pictures, "--model", SWISH / "config.json", "--ckpt", SWISH]
    options = ["--limit", "4", "--batch", "3", "--workers", "0", "--json"]
    result = CliRunner().invoke(main, [*map(str, arguments), *options])
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)["metrics"]
    assert baseline.metrics == pytest.approx({name: metrics[name] for name in METRICS}, abs=1e-14)


def inputs(setup: Setup, ablator: Ablator) -> list[np.ndarray]:
    return [setup.pipeline.preprocess(read_encoded(image.path))[0] for image in ablator.images]


def outputs(setup: Setup, images: list[np.ndarray]) -> list[torch.Tensor]:
    with torch.inference_mode():
        return [level for image in images for kind in setup.model(torch.from_numpy(image)[None]) for level in kind]


def same(one: list[Any], other: list[Any]) -> bool:
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def official_run(ablator: Ablator) -> tuple[list[np.ndarray], list[torch.Tensor], np.ndarray]:
    """The baseline's inputs, raw outputs and detections."""
    images = inputs(ablator.baseline, ablator)
    rows = ablator.detections(ablator.baseline, ablator.cached(ablator.baseline, []))
    return images, outputs(ablator.baseline, images), rows


@pytest.mark.parametrize("name", [name for name, each in ABLATIONS.items() if each.stage != "network"])
def test_each_change_acts_at_its_stage_and_not_before(
    name: str, ablator: Ablator, official_run: tuple[list[np.ndarray], list[torch.Tensor], np.ndarray]
) -> None:
    ablation, official = ABLATIONS[name], ablator.baseline
    other = ablation.apply(official)
    before = {key: value.clone() for key, value in official.model.state_dict().items()}
    ours, made, found = official_run
    theirs = inputs(other, ablator)
    if ablation.stage == "input":
        assert [each.shape for each in ours] != [each.shape for each in theirs] or not same(ours, theirs)
        assert other.model is official.model
        assert other.pipeline.postprocess.nms is official.pipeline.postprocess.nms
    else:
        assert same(ours, theirs)
        assert same(made, outputs(other, ours)) == (ablation.stage == "decode")
    if ablation.stage == "decode":
        rows = ablator.detections(other, ablator.cached(other, [ablation]))
        assert np.array_equal(rows, found) == (name in WITHOUT_EFFECT_HERE)
    assert all(torch.equal(value, before[key]) for key, value in official.model.state_dict().items())


def test_changes_are_made_stage_by_stage(ablator: Ablator) -> None:
    """Clipping is to the input's size, whichever of the two is named first."""
    codes, anchors = torch.zeros(1, 4), torch.tensor([[-50.0, -50.0, 1000.0, 1000.0]])
    for names in (("clip", "larger-input"), ("larger-input", "clip")):
        pipeline = ablator.changed([ABLATIONS[name] for name in names]).pipeline
        assert pipeline.config.image_size != ablator.baseline.pipeline.config.image_size
        height, width = pipeline.config.image_size
        assert pipeline.postprocess.decode(codes, anchors).tolist() == [[0, 0, height, width]]


def test_what_is_cached_is_what_is_computed(
    study: Study, ablator: Ablator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [ABLATIONS["no-same-maxpool"], ABLATIONS["hard-nms-0.5"], ABLATIONS["pillow-decode"]]
    study = dataclasses.replace(study, cache=tmp_path)
    first = Ablator(study, tmp_path, Group())
    computed = [first.row([each]) for each in changes]

    def fail(*arguments: object) -> Any:
        raise AssertionError("computed again")

    monkeypatch.setattr(output_cache, "stream", fail)
    second = Ablator(study, tmp_path, Group())
    second.baseline.model.forward = fail  # type: ignore[method-assign]
    again = [second.row([each]) for each in changes if each.stage != "network"]
    for row in again:
        mine = next(each for each in computed if each.name == row.name)
        assert (row.metrics, row.differences) == (mine.metrics, mine.differences)
    assert [row.name for row in again] == ["hard-nms-0.5", "pillow-decode"]
    assert not list(tmp_path.glob("*.part"))


def test_other_weights_are_another_entry(study: Study, tmp_path: Path) -> None:
    one, other = Ablator(study, tmp_path, Group()), Ablator(study, tmp_path, Group())
    assert one.key == other.key
    with torch.no_grad():
        other.baseline.model.backbone.stem.conv.weight[0, 0, 0, 0] += 1
    from effconv.parity.evaluation.detect import Running, run_key

    changed = run_key(other.baseline.model, other.baseline.pipeline, other.dataset, Running(batch=3))
    assert changed != one.key


def test_an_image_that_cannot_be_read(pictures: Path, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures")
    (folder / "val2017" / "001.jpg").write_bytes(b"nothing")
    study = Study(coco=folder, model=str(SWISH / "config.json"), checkpoint=SWISH, limit=4)
    with pytest.raises(EffconvError, match=r"001\.jpg"):
        Ablator(study, tmp_path / "cache", Group()).row([])
    assert list((tmp_path / "cache").iterdir()) == []


def run(pictures: Path, *options: object) -> Result:
    arguments = ["ablate", "--coco", pictures, "--ckpt", SWISH, "--model", SWISH / "config.json", "--limit", 4]
    intervals = () if "--waterfall" in options else ("--resamples", 40)
    return CliRunner().invoke(main, [str(each) for each in (*arguments, *intervals, *options)])


def test_the_command(pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    result = run(pictures, "--no-same-maxpool", "--hard-nms-0.5", "--combine", "--record", path)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    names = ["baseline", "no-same-maxpool", "hard-nms-0.5", "no-same-maxpool + hard-nms-0.5"]
    assert [line.split("  ")[0].split(" AP")[0].strip() for line in lines] == names
    written = json.loads(path.read_text())
    record = AblationRecord.read(written)
    assert record.plain() == written
    assert [row.name for row in record.rows] == names
    assert record.subject.images == 4
    assert lines == [ablation_line(row) for row in record.rows]
    table = ablation_table(record)
    assert "B1 without SAME max-pool: AP 0.161, its baseline 0.388" in table
    assert len(table.splitlines()) == 2 + len(names)
    again = run(pictures, "--no-same-maxpool", "--hard-nms-0.5", "--combine", "--json")
    for mine, other in zip(written["rows"], json.loads(again.stdout)["rows"], strict=True):
        assert (mine["metrics"], mine["differences"]) == (other["metrics"], other["differences"])


def test_a_gap_split_over_its_differences(pictures: Path, ablator: Ablator) -> None:
    result = run(pictures, "--waterfall", "--hard-nms-0.5", "--no-same-maxpool", "--batch", 3, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    changes = [ABLATIONS["no-same-maxpool"], ABLATIONS["hard-nms-0.5"]]
    assert record["first"] == ablator.metric([])
    assert record["last"] == pytest.approx(ablator.metric(changes))
    assert sum(record["parts"].values()) == pytest.approx(record["gap"])
    assert record["alone"]["hard-nms-0.5"] == pytest.approx(ablator.metric(changes[1:]) - record["first"])
    text = run(pictures, "--waterfall", "--hard-nms-0.5", "--no-same-maxpool", "--batch", 3).stdout
    assert text.splitlines()[0].startswith("official ")
    assert "interaction" in text.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--waterfall", "--no-clip"), "2 to 6 differences, found 1"),
        (("--no-such-thing",), "--no-such-thing: no such option or ablation"),
        ((), "name what to ablate"),
        (("--swish-activation",), "tiny-swish has nothing that it changes"),
    ],
)
def test_bad_input(options: tuple[str, ...], message: str, pictures: Path) -> None:
    result = run(pictures, *options)
    assert (result.exit_code, message in result.stderr) == (2, True), result.output


def test_data_without_a_checkpoint(pictures: Path) -> None:
    result = CliRunner().invoke(main, ["ablate", "--coco", str(pictures), "--no-clip"])
    assert (result.exit_code, "give both, or neither" in result.stderr) == (2, True)


def test_the_list() -> None:
    result = CliRunner().invoke(main, ["ablate", "--list"])
    assert result.exit_code == 0
    assert [line.split()[0].removeprefix("--") for line in result.stdout.splitlines()] == list(ABLATIONS)


def test_metrics_are_the_engines(ablator: Ablator, baseline: AblationRow) -> None:
    rows = ablator.detections(ablator.baseline, ablator.cached(ablator.baseline, []))
    expected = evaluate(ablator.dataset, rows, ablator.images, "pycocotools").metrics
    assert baseline.metrics == pytest.approx(expected, abs=1e-14)


def test_seconds_are_those_of_an_image(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on by one at every look: a batch of three takes a second, and so do all four to decode."""
    for module in (run_module, output_cache):
        clock = itertools.count()
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda clock=clock: float(next(clock))))
    row = Ablator(study, tmp_path, Group()).row([])
    assert (row.network_seconds_per_image, row.decode_seconds_per_image) == (1 / 3, 1 / 4)


def test_what_is_selected_is_had_image_by_image(ablator: Ablator) -> None:
    selected = ablator.cached(ablator.baseline, []).selected
    assert selected is not None
    for place in range(4):
        selection, codes = selected.of(place)
        assert [len(column) for column in (*selection, codes)] == [1] * 4
        assert np.array_equal(selection.logits[0], selected.logits[place])
        assert np.array_equal(codes[0], selected.codes[place])


def test_two_images_are_the_fewest(study: Study) -> None:
    with pytest.raises(EffconvError, match="an interval needs at least two images") as caught:
        run_study(dataclasses.replace(study, limit=1), [], "command", lambda row: None)
    assert caught.value.parameters == {"limit": None}  # what to give another value, of which none is proposed
    record = run_study(dataclasses.replace(study, limit=2, resamples=3), [], "command", lambda row: None)
    assert record is not None
    assert (record.subject.images, [row.name for row in record.rows]) == (2, ["baseline"])


def test_one_image_for_each_process_is_the_least(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert len(Ablator(study, tmp_path, Group()).mine) == 1
    monkeypatch.setenv("WORLD_SIZE", "5")
    with pytest.raises(EffconvError, match="4 images for 5 processes"):
        Ablator(study, tmp_path, Group())


def test_the_committed_record_is_read_and_written_as_it_is(repository: Path) -> None:
    plain = json.loads((repository / "results" / "measured" / "ablations.json").read_text())
    assert AblationRecord.read(plain).plain() == plain
    for damaged in ({**plain, "rows": [{}]}, {**plain, "rows": [7]}, {"rows": []}):
        with pytest.raises(EffconvError, match="not a record of ablations"):
            AblationRecord.read(damaged)
