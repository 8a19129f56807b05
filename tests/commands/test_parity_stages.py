"""`effconv parity --port NAME --end-to-end`, with a made-up port: status, lines and JSON."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from effconv.cli import main
from effconv.effdet_torch.config import Config
from effconv.parity.referee import stage_changes as changes
from effconv.parity.referee import stages_job
from effconv.parity.referee.port_stages import Change, OwnStages, PortStages
from effconv.parity.referee.stages_job import StagesRecord

pytestmark = pytest.mark.tf


def run(monkeypatch: pytest.MonkeyPatch, tiny: Path, made: list[Change], *options: str) -> Result:
    """The command, of a port that is effconv with some changes."""

    def port_stages(name: str, config: Config) -> PortStages:
        assert name == "effdet"
        stages: Any = OwnStages.official(config)
        for change in made:
            stages = change.make(stages)
        return PortStages(stages, made)

    monkeypatch.setattr(stages_job, "port_stages", port_stages)
    named = ["--port", "effdet", "--end-to-end", "--model", str(tiny / "config.json"), "--ckpt", str(tiny)]
    return CliRunner().invoke(main, ["parity", *named, *options])


def test_a_port_that_is_official(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    result = run(monkeypatch, tiny, [])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("effconv: 6 of 6 stages are the official ones\n")
    assert "a drawn picture (300x200)" in result.stdout


def test_a_port_that_differs(monkeypatch: pytest.MonkeyPatch, tiny: Path, tmp_path: Path) -> None:
    from effconv.parity.traces.images import drawn

    (tmp_path / "mine.jpg").write_bytes(drawn(3, (90, 120)))
    options = ["--image", str(tmp_path / "mine.jpg"), "--size", "128x128"]
    result = run(monkeypatch, tiny, [changes.LEGACY_ANCHORS], *options)
    assert result.exit_code == 1, result.output
    assert "anchors" in result.stdout.splitlines()[0]
    assert (
        f"    {changes.LEGACY_ANCHORS.sentence}\n    effconv made to do the same differs from it by 0\n"
        in result.stdout
    )
    page = tmp_path / "x.html"
    again = run(monkeypatch, tiny, [changes.LEGACY_ANCHORS], *options, "--json", "--report", str(page))
    assert again.exit_code == 1
    assert '<div class="banner failed">' in page.read_text()
    assert f"{changes.LEGACY_ANCHORS.sentence}</li>" in page.read_text()
    record = StagesRecord.read(json.loads(again.stdout))
    assert not record.ok
    assert record.found.picture == "mine.jpg"
    assert record.found.picture_size == (90, 120)
    assert record.found.image_size == (128, 128)
    assert {row.stage for row in record.found.rows if not row.ok} >= {"anchors"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--port", "effdet"), "--port with --end-to-end: name the model"),
        (("--module", "mine:build", "--model", "d0"), "--end-to-end: not used by --port or --module"),
        (("--port", "effdet", "--model", "d0", "--coco", "pictures"), "--coco: not used by --port with --end-to-end"),
        (("--port", "effdet", "--model", "d0", "--noise", "1"), "--noise: not used by --port with --end-to-end"),
    ],
)
def test_what_has_no_part_is_refused(words: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(main, ["parity", "--end-to-end", *words])
    assert result.exit_code == 2
    assert said in result.stderr
