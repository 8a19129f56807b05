"""Documentation that is generated must be what its sources say."""

import json
import re
import statistics
from pathlib import Path
from types import ModuleType

import click
import pytest
from command_lines import every_command

from effconv.parity.benchmarks.precision_forms import FORMS
from effconv.parity.benchmarks.precision_record import PrecisionRecord
from effconv.parity.comparison.end_to_end_record import EndToEndTable
from effconv.parity.comparison.measured_records import ProvenModels
from effconv.parity.referee.records import RefereeRecord
from effconv.parity.referee.stage_records import PortStagesRecord
from effconv.parity.training.finetuning_record import RECIPE, FinetuningRecord
from scripts import load_script


@pytest.fixture(scope="module")
def renderer(repository: Path) -> ModuleType:
    """tools/render_docs.py as a module."""
    return load_script(repository / "tools" / "render_docs.py")


@pytest.mark.parametrize(("name", "command"), every_command())
def test_every_command_and_option_is_documented(name: str, command: click.Command) -> None:
    assert command.help, name
    assert [each.name for each in command.params if isinstance(each, click.Option) and not each.help] == []


def test_tables_are_what_the_records_say(renderer: ModuleType, repository: Path) -> None:
    for name in renderer.RENDERED:
        text = (repository / name).read_text()
        assert text == renderer.rendered(text), f"{name}: `make docs` renders it"


def test_the_readme_is_short(repository: Path) -> None:
    """A screen of figures and four ways in; everything else has a page of its own."""
    text = (repository / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 900


def test_links_between_pages_lead_somewhere(repository: Path) -> None:
    pages = [*repository.glob("*.md"), *sorted((repository / "docs").rglob("*.md"))]
    for page in pages:
        text = page.read_text()
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", text):
            other = (page.parent / target).resolve() if target else page
            assert other.exists(), f"{page.name}: {target}"
            if anchor:
                headings = re.findall(r"(?m)^#+ (.+)$", other.read_text())
                known = {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
                assert anchor in known, f"{page.name}: {target}#{anchor}"


def test_the_chart_is_what_the_record_says(renderer: ModuleType, repository: Path) -> None:
    record = json.loads((repository / "results" / "measured" / "ablations.json").read_text())
    assert renderer.CHART.read_text() == renderer.ablation_chart(renderer.AblationRecord.read(record)), (
        "`make docs` draws it"
    )


def test_the_chart_of_networks_is_what_the_records_say(renderer: ModuleType, repository: Path) -> None:
    assert renderer.SPEED.read_text() == renderer.speeds(), "`make docs` draws it"
    shown = (repository / "docs" / "performance.md").read_text()
    assert "(speed.svg)" in shown


def test_every_table_is_shown_somewhere(renderer: ModuleType, repository: Path) -> None:
    shown = re.findall(r"<!-- end ([\w-]+) -->", "".join((repository / name).read_text() for name in renderer.RENDERED))
    assert set(shown) == set(renderer.tables())


CONTESTS = ("bench-input", "bench-nms", "bench-eval")
RECORDED = ("parity", "faults", "sensitivity", "end-to-end", "float32", "verdicts", "mutants")
COMPARISONS = ("ports", "ports-stages", "referee", "losses", "backbone-lite0", "hostile", "kills", *RECORDED)
ABLATIONS = ("ablations", "bootstrap-coverage", "bench-ablation")
DETECTOR = ("shapes-training", "shapes-official", "strip", "finetune", *ABLATIONS)
# Of these models' networks, d0's and those that were measured.
MEASURED = Path(__file__).parent.parent / "results" / "measured"
INFERENCE = ("bench-inference-d0", *(f"bench-inference-{model}" for model in ("d1", "d3", "lite0")))
THERE = tuple(name for name in INFERENCE if (MEASURED / f"{name}.json").exists())
NETWORKS = (*THERE, "bench-training-d0", "bench-training-d1", "bench-predict-d0")
BENCHMARKS = ("bench-coco", "bench-allocation", "bench-waiting", "bench-runs", "reader")
COSTS = ("parity-d7x", "convert-d0", "convert-d7x", *BENCHMARKS, "precision-engines", "install")
RECORDS = (*COMPARISONS, *COSTS, *CONTESTS, *DETECTOR, *NETWORKS)


@pytest.mark.parametrize("name", RECORDS)
def test_records_say_where_they_come_from(name: str, repository: Path) -> None:
    record = json.loads((repository / "results" / "measured" / f"{name}.json").read_text())
    assert {"what", "provenance"} <= set(record)
    provenance = record["provenance"]
    assert "effconv" in (record | provenance)["command"] or ".py" in record["command"]
    assert re.fullmatch(r"[0-9a-f]{40}", provenance["git_commit"]), "measured on a commit, not on uncommitted changes"
    assert provenance["versions"]["torch"]
    assert provenance["device"] == "cpu"


def test_there_is_no_other_record(repository: Path) -> None:
    assert {path.stem for path in (repository / "results" / "measured").glob("*.json")} == set(RECORDS)


def test_promises_are_kept_by_the_records(repository: Path) -> None:
    measured = {
        path.stem: json.loads(path.read_text()) for path in (repository / "results" / "measured").glob("*.json")
    }
    ratios = {
        (model, row["what"]): row["ratio"] for model in ("d0", "d7x") for row in measured[f"convert-{model}"]["rows"]
    }
    assert ratios["d0", "whole command"] >= 5
    assert ratios["d0", "peak memory"] <= 0.25
    assert ratios["d0", "read all, verified"] >= 2
    assert ratios["d7x", "peak memory / weights kept"] < 2.2
    rows = ProvenModels.read(measured["parity"]).rows
    assert [(row.model, row.size) for row in rows] == [
        ("tiny-swish", "128x160"),
        ("tiny-sum8", "256x256"),
        ("tiny-lite", "128x128"),
        ("efficientdet-d0", "512x512"),
        ("efficientdet-d0", "384x640"),
        ("efficientdet-d0", "385x513"),
        ("efficientdet-d1", "640x640"),
        ("efficientdet-lite0", "320x320"),
    ]
    for row in rows:
        for comparison in row.comparisons.values():
            assert comparison.layers == comparison.layers_that_hold > 270
        checks = row.comparisons["candidate beside reference"].checks
        assert max(checks[f"float64 {kind}"].worst_error for kind in ("local", "accumulated")) < 1e-9
    largest = measured["parity-d7x"]
    assert largest["image_shape"] == [1, 3, 1536, 1536]
    assert largest["verdict"].startswith("nothing changed on the way")
    assert largest["peak_bytes"] < largest["peak_bytes_promised"] == 10e9


def test_what_is_installed_for_converting_alone_is_small_and_has_no_pytorch(repository: Path) -> None:
    record = json.loads((repository / "results" / "measured" / "install.json").read_text())
    alone, plain, full = record["rows"]
    assert alone["torch"] is None
    assert plain["torch"] == full["torch"]
    assert alone["downloaded_bytes"] < plain["downloaded_bytes"] / 5
    assert plain["downloaded_bytes"] < full["downloaded_bytes"]


def test_recorded_images_are_the_same_from_the_bytes_on(repository: Path) -> None:
    record = EndToEndTable.read(json.loads((repository / "results" / "measured" / "end-to-end.json").read_text()))
    assert [row.model for row in record.rows] == ["efficientdet-d0", "efficientdet-lite0"]
    for row in record.rows:
        found = row.found
        assert found.ok
        assert found.images == 66
        for name, outcome in found.stages.items():
            assert outcome.held == outcome.of == (1 if name == "layers" else 66)
        assert found.lists.unexplained == 0
        assert found.lists.identical + found.lists.explained == 66
        assert found.matched <= found.detections > 0


def test_recorded_contestants_did_the_same_work_on_one_thread(repository: Path) -> None:
    measured = {
        name: json.loads((repository / "results" / "measured" / f"{name}.json").read_text())
        for name in ("bench-coco", *CONTESTS)
    }
    engines = measured["bench-coco"]
    assert (engines["images"], engines["detections"]) == (5000, 500_000)
    assert engines["boxes"] > 35_000
    assert engines["crowds"] > 0
    assert all(engines["identical"].values())
    for name in CONTESTS:
        record = measured[name]
        assert record["rounds"] >= 5
        assert max(row["processors_used"] for row in record["rows"]) < 1.1
        assert record["provenance"]["processor"]
        for row in record["rows"]:
            turns, beside = (
                statistics.median(turn["seconds"] for turn in record["turns"][each])
                for each in (row["contestant"], row["beside"])
            )
            assert row["ratio"] == turns / beside
    assert measured["bench-input"]["identical_inputs"] == measured["bench-input"]["images"] == 66
    assert measured["bench-nms"]["identical_to_tensorflow"]
    assert (measured["bench-nms"]["candidates"], measured["bench-nms"]["classes"]) == (5000, 90)


def test_recorded_ablations_show_what_the_published_notes_show(repository: Path) -> None:
    record = json.loads((repository / "results" / "measured" / "ablations.json").read_text())
    rows = {row["name"]: row for row in record["rows"]}
    assert record["images"] == 500
    assert len(rows) >= 59
    baseline = rows["baseline"]["metrics"]

    def kept(name: str, metric: str) -> float:
        return float(rows[name]["metrics"][metric] / baseline[metric])

    assert kept("no-same-maxpool", "AP75") < kept("no-same-maxpool", "AP50")
    assert kept("no-same-at-all", "AP") < 0.1
    for name in ("no-clip", "min-score-0.001"):
        assert rows[name]["verdict"] == "no effect"
    assert kept("min-score-0.05", "ARs") < kept("min-score-0.05", "ARm")
    for row in record["rows"][1:]:
        change = row["differences"]["AP"]
        assert change["difference"] == row["metrics"]["AP"] - baseline["AP"]
        assert change["low"] <= change["high"]


def test_recorded_networks_keep_their_promises(repository: Path) -> None:
    measured = repository / "results" / "measured"
    cost = json.loads((measured / "bench-ablation.json").read_text())
    assert cost["images"] == 5000
    assert cost["share"] < cost["promised"] == 0.02
    assert "bench-inference-d0" in NETWORKS
    for name in NETWORKS:
        record = json.loads((measured / f"{name}.json").read_text())
        assert record["rounds"] >= 5
        # Not every peer has every model.
        assert {"effdet", "tensorflow"}.isdisjoint(record["left_out"])
        assert record["left_out"] == {} or name in THERE[1:]
        for row in record["rows"]:
            assert (row.get("error_beside_the_model") or 0) < 1e-3


def test_float32_has_one_ap_whatever_computes_it_and_the_rest_has_its_own(repository: Path) -> None:
    record = PrecisionRecord.read(
        json.loads((repository / "results" / "measured" / "precision-engines.json").read_text())
    )
    assert record.images >= 200
    found = {(row.engine, row.precision, row.scales) for row in record.rows}
    assert {form for form in FORMS if form.engine not in record.left_out} == found
    first = record.rows[0]
    assert (first.engine, first.precision, first.class_error, first.box_error) == ("eager", "float32", 0, 0)
    for row in record.rows:
        errors = [error for error in (row.class_error, row.box_error) if error is not None]
        if row.precision == "float32":
            assert f"{row.ap:.4f}" == f"{first.ap:.4f}"
            assert max(errors) < 1e-4
        else:
            assert max(errors) > 1e-4, "in float32, whatever it says"
        assert row.change.difference == pytest.approx(row.ap - first.ap, abs=1e-12)
        assert row.change.low <= row.change.high
        assert (row.file_bytes is not None) == (row.engine in ("onnxruntime", "openvino", "tflite"))
    sizes = {(row.engine, row.precision): row.file_bytes for row in record.rows}
    assert sizes["tflite", "float32"] > sizes["tflite", "float16"] > sizes["tflite", "int8"]


def test_the_recipe_of_fine_tuning_is_better_than_others(repository: Path) -> None:
    record = FinetuningRecord.read(json.loads((repository / "results" / "measured" / "finetune.json").read_text()))
    worst = min(float(run.metrics["AP"] or 0) for run in record.of(RECIPE))
    others = {name: [float(run.metrics["AP"] or 0) for run in record.of(name)] for name in record.recipes()}
    assert len(others.pop(RECIPE)) >= 3
    assert worst > max(others["with every setting of `effconv train`"])
    assert max(others["from nothing"]) < 0.1


def test_recorded_faults_are_all_found_where_they_were_planted(repository: Path) -> None:
    record = json.loads((repository / "results" / "measured" / "faults.json").read_text())
    rows = record["rows"]
    assert {row["model"] for row in rows} == {"tiny-swish", "tiny-sum8"}
    assert len(rows) >= 2 * 20
    assert [row for row in rows if row["named"] != row["planted_in"]] == []
    known = [row for row in rows if row["expected_explanation"]]
    assert [row for row in known if row["expected_explanation"] not in row["explained_as"]] == []
    assert len(record["clean_runs"]) == 20
    assert [run["false_alarm"] for run in record["clean_runs"]] == [None] * 20


def test_the_pages_name_only_commands_and_files_that_exist(repository: Path) -> None:
    from effconv.cli import main

    pages = (
        "README.md",
        *(f"docs/{name}.md" for name in ("convert", "prove", "evaluate", "ablations", "deploy", "train")),
    )
    text = "\n".join((repository / page).read_text() for page in pages)
    code = "\n".join(re.findall(r"```.*?```|`[^`]+`", text, re.DOTALL))
    commands = set(re.findall(r"(?:^|`|-m )effconv ([a-z0-9]+)", code, re.MULTILINE))
    assert commands <= set(main.commands)
    assert len(commands) > 15
    for target in re.findall(r"`((?:tests|docs|parity|results)/[\w./-]+)`", text):
        assert (repository / target).exists(), target
    makefile = (repository / "Makefile").read_text()
    for target in re.findall(r"^make ([\w-]+)", text, re.MULTILINE):
        assert f"\n{target}:" in makefile


def test_recorded_float32_faults_are_all_named_and_clean_runs_hold(repository: Path) -> None:
    record = json.loads((repository / "results" / "measured" / "float32.json").read_text())
    assert len(record["faults"]) > 300
    assert [row for row in record["faults"] if row["named"] != row["planted_in"]] == []
    assert len(record["clean_runs"]) == 40
    assert [run for run in record["clean_runs"] if run["false_alarm"]] == []
    # A clean layer uses less than all of its bound, a fault far more.
    assert max(row[side] for row in record["clean"] for side in ("candidate", "reference")) < 1
    assert min(row["times_bound"] for row in record["faults"] if row["side"] == "ours") > 1


def test_every_recorded_wrong_result_was_refused_by_a_test_that_is_there(repository: Path) -> None:
    record = json.loads((repository / "results" / "measured" / "verdicts.json").read_text())
    assert [row for row in record["rows"] if not row["planted"] == row["refused"] > 0] == []
    for row in record["rows"]:
        file, _, test = row["test"].partition("::")
        assert f"def {test}(" in (repository / file).read_text()


def test_recorded_changes_of_the_code_were_noticed(repository: Path) -> None:
    record = json.loads((repository / "results" / "measured" / "mutants.json").read_text())
    modules = record["modules"].values()
    unseen = len(record["unnoticed"]) + len(record["equivalent"])
    assert record["mutants"] == sum(each["mutants"] for each in modules) == record["noticed"] + unseen
    assert record["noticed"] == sum(each["noticed"] for each in modules)
    assert len(record["equivalent"]) == sum(each["equivalent"] for each in modules)
    assert record["noticed"] >= 0.95 * (record["mutants"] - len(record["equivalent"]))
    assert all(record["equivalent"].values())
    assert [name for name in record["modules"] if not (repository / name).is_file()] == []


def test_the_referee_finds_every_planted_fault_and_nothing_else(repository: Path) -> None:
    record = RefereeRecord.read(json.loads((repository / "results" / "measured" / "referee.json").read_text()))
    assert len(record.planted) >= 20
    assert len({row.fault for row in record.planted}) == len(record.planted)
    assert all(row.detected and row.named and row.explained for row in record.planted)
    assert len(record.clean) == 10
    assert all(row.ok for row in record.clean)
    assert record.without_names.paired >= 0.9 * record.without_names.layers
    assert record.without_names.wrong == ()


def test_effdets_training_loss_differs_by_its_anchors_and_nothing_else(repository: Path) -> None:
    record = json.loads((repository / "results" / "measured" / "losses.json").read_text())
    for found in record["comparisons"]:
        wrong = [row for row in found["rows"] if not row["ok"]]
        assert [row["stage"] for row in wrong] == ["anchors"]
        assert "before 2020-09-10" in wrong[0]["why"]
        assert all(row["official_difference"] <= row["limit"] for row in found["rows"])
    assert len(record["training"]) == len(record["comparisons"]) == 2
    for each in record["training"]:
        assert abs(each["theirs_all_blocks"] / each["ours_all_blocks"] - 1) > 5e-3
        # On the same targets: float32 sums of millions of terms, by two programs.
        assert abs(each["theirs_on_our_targets"] / each["ours_all_blocks"] - 1) < 1e-5


def test_every_difference_of_the_ports_own_stages_goes_away_where_effconv_does_the_same(repository: Path) -> None:
    record = PortStagesRecord.read(json.loads((repository / "results" / "measured" / "ports-stages.json").read_text()))
    assert len({found.theirs for found in record.comparisons}) == 3
    for found in record.comparisons:
        assert found.detections > 50
        for row in found.rows:
            assert row.effconv <= row.limit
            assert row.ok or (row.why and row.left is not None and row.left <= row.limit)
