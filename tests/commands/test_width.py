"""What is printed fits 80 columns on a terminal that has them; tables fit where the output is no terminal too."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from effconv.cli import main
from effconv.parity.comparison.records import CheckFigures, LayerRow
from effconv.parity.comparison.report import layer_lines
from effconv.parity.evaluation.published_rows import find_published
from effconv.parity.evaluation.report import metric_lines, speed_lines
from effconv.parity.rendering.terminal import wrapped

PATH_LENGTH = 30  # a word with a slash in it and so long is a path or a name like one, which is never cut
TABLES = (("models",), ("results",), ("results", "--speed"))


def printed(*arguments: object, columns: str | None = "80") -> list[str]:
    done = CliRunner(env={"COLUMNS": columns}).invoke(main, [str(each) for each in arguments])
    assert done.exit_code in (0, 1), done.output
    assert "\x1b" not in done.stdout  # colours are for terminals
    assert "\u2026" not in done.stdout  # no figure is cut off
    return done.stdout.splitlines()


def too_long(lines: list[str]) -> list[str]:
    return [
        line
        for line in lines
        if len(line) > 80 and not any("/" in word and len(word) > PATH_LENGTH for word in line.split())
    ]


@pytest.mark.parametrize("columns", ["80", None])
@pytest.mark.parametrize("words", TABLES)
def test_tables_fit(words: tuple[str, ...], columns: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = printed(*words, columns=columns)
    assert len(lines) > 20
    assert too_long(lines) == []


def test_what_is_said_of_weights_fits(tiny: Path) -> None:
    assert too_long(printed("inspect", tiny)) == []
    assert too_long(printed("identify", tiny)) == []


def test_lists_of_changes_fit() -> None:
    lines = printed("ablate", "--list")
    assert too_long(lines) == []
    assert any(line.startswith(" " * 36) for line in lines)


def test_a_check_of_a_dataset_fits_and_says_its_verdict_first(tmp_path: Path) -> None:
    printed("shapes", "-o", tmp_path / "shapes", "--images", 4)
    lines = printed("check", tmp_path / "shapes")
    assert too_long(lines) == []
    assert " serious findings, " in " ".join(lines[:2])


@pytest.mark.parametrize("tiny", ["tiny-lite"], indirect=True)
@pytest.mark.parametrize("layerwise", [False, True])
def test_a_comparison_fits_and_says_its_verdict_first(tiny: Path, layerwise: bool) -> None:
    options = ("--reference", "torch", "--model", tiny / "config.json", "--ckpt", tiny)
    lines = printed("parity", *options, *(["--layerwise"] if layerwise else []))
    assert too_long(lines) == []
    assert ": two runs of effconv agree" in lines[0]


def test_a_sentence_stays_on_its_line_where_a_program_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    sentence = "word " * 40
    assert wrapped(sentence) == sentence
    monkeypatch.setenv("COLUMNS", "80")
    assert too_long(wrapped(sentence).splitlines()) == []


def test_a_wider_terminal_shows_more_metrics() -> None:
    rows = find_published("efficientdet-d0", None, None, False)
    narrow, wide = (metric_lines(rows, width) for width in (80, 140))
    assert "ARl" not in narrow[0]
    assert narrow[-1].startswith("AR")
    assert "ARl" in wide[0]
    assert not wide[-1].startswith("AR")


def test_speeds_are_shown_of_rows_that_have_metrics_too() -> None:
    rows = find_published(None, None, None, True)
    assert any(row.metrics for row in rows)
    text = "\n".join(speed_lines(rows, 80))
    assert text.count("device ") == sum("device" in row.details["speed"] for row in rows)


def test_a_layer_has_one_line_where_there_is_room_for_it() -> None:
    check = CheckFigures(ok=True, error=1e-16, rms=0.0, cosine=1.0, ulp=0.0, limit=1e-9, times_bound=None, noise=None)
    row = LayerRow(
        layer="backbone.stem",
        official="stem/conv",
        shape=(1, 2, 2, 3),
        ok=True,
        fault="",
        checks={"float64 local": check},
        soundness={},
    )
    assert [len([*layer_lines([row], ["float64 local"], width)]) for width in (160, 60)] == [2, 5]
