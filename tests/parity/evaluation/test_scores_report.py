"""Metrics and published results as they are printed."""

import dataclasses
import io
import json

from click.testing import CliRunner
from rich.console import Console
from score_records import RECORD, REPRODUCED

from effconv.cli import main
from effconv.parity.evaluation.published_rows import PublishedMetric
from effconv.parity.evaluation.report import figure, print_published, print_scores
from effconv.parity.evaluation.score_record import ScoreRecord


def printed(record: ScoreRecord) -> list[str]:
    text = io.StringIO()
    print_scores(record, Console(file=text, width=120))
    return text.getvalue().splitlines()


def test_a_metric_without_boxes_is_a_dash() -> None:
    assert [figure(value) for value in (0.12344, -1.0, None, 0.0)] == ["0.1234", "-", "-", "0.0000"]


def test_scores_say_what_they_are_of() -> None:
    lines = printed(RECORD)
    assert lines[0] == "efficientdet-d0: AP 0.3429 on 5000 images"
    assert lines[1] == "split val2017, nms soft, score_threshold 0.0"
    assert lines[2].split() == ["AP,", "IoU", "0.50:0.95", "0.3429"]
    assert next(line for line in lines if "small boxes" in line).split()[-1] == "-"
    assert "best categories by AP: category 19 0.190, category 18 0.180" in "\n".join(lines)
    assert "worst categories by AP: category 4 0.040, category 3 0.030" in "\n".join(lines)
    assert lines[-1] == "12.0 s, 416.67 images/s"


def test_part_of_a_dataset_and_skipped_images_are_said() -> None:
    lines = printed(dataclasses.replace(RECORD, images=66, skipped={"7": "a.jpg: not a readable image"}))
    assert lines[0].endswith("on 66 of 5000 images")
    assert lines[-2:] == [
        "skipped: a.jpg: not a readable image",
        "1 of 66 images skipped; they count as images without detections",
    ]


def test_results_are_filtered() -> None:
    text = CliRunner().invoke(main, ["results", "--model", "b1", "--system", "pytorch-tools"]).stdout
    assert "B1 without SAME max-pool" in text
    assert "0.161" in text
    assert "efficientdet-d0" not in text
    rows = json.loads(CliRunner().invoke(main, ["results", "--speed", "--json", "--model", "d0"]).stdout)
    assert {row["model"] for row in rows} == {"efficientdet-d0"}
    assert 10.2 in [row["details"]["speed"].get("batch1_ms") for row in rows]
    speeds = CliRunner().invoke(main, ["results", "--speed", "--model", "d0"]).stdout
    assert "device V100" in speeds
    peers = json.loads(CliRunner().invoke(main, ["results", "--model", "efficientdet_q1", "--json"]).stdout)
    assert [row["metrics"]["AP"] for row in peers] == [0.409]
    nothing = CliRunner().invoke(main, ["results", "--model", "d0", "--split", "train"])
    assert (nothing.exit_code, "no published result is like that" in nothing.stderr) == (2, True)


def test_a_published_metric_is_followed_by_ours_less_theirs() -> None:
    """A dash where nothing is published, and where there is nothing to measure ours on."""
    rows = (*REPRODUCED.rows, PublishedMetric("APm", -1.0, 0.3))
    record = dataclasses.replace(RECORD, published=dataclasses.replace(REPRODUCED, rows=rows))
    text = io.StringIO()
    print_published(record, Console(file=text, width=120))
    cells = [line.rsplit(maxsplit=3) for line in text.getvalue().splitlines() if " boxes " in line or "IoU" in line]
    assert [[name.strip(), *figures] for name, *figures in cells] == [
        ["AP, IoU 0.50:0.95", "0.3431", "0.3430", "+0.0001"],
        ["AP, small boxes", "0.1000", "-", "-"],
        ["AP, medium boxes", "-", "0.3000", "-"],
    ]
