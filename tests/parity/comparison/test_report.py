"""A comparison as Markdown, beside the same comparison's record."""

import json
from dataclasses import replace
from pathlib import Path

from effconv.parity.comparison.records import ComparisonRecord
from effconv.parity.comparison.report import write_report
from page_record import make_record


def test_a_name_that_is_not_utf_8_is_no_trouble(tmp_path: Path) -> None:
    """`menu\\xe9.jpg`, as Python has it."""
    record = ComparisonRecord.read(make_record())
    images = replace(record.images, label="menu\udce9.jpg")
    write_report(replace(record, images=images), tmp_path / "a.md")
    assert r"menu\udce9.jpg" in (tmp_path / "a.md").read_text()


def test_provenance_is_in_markdown_as_it_is_in_the_record(tmp_path: Path) -> None:
    """Line by line, so that either may be searched for what stands in the other."""
    record = make_record() | {"explanations": []}
    for name in ("a.json", "a.md"):
        write_report(ComparisonRecord.read(record), tmp_path / name)
    lines = (tmp_path / "a.md").read_text().splitlines()
    block = lines[lines.index("```json") + 1 : lines.index("```")]
    assert json.loads("\n".join(block)) == record["provenance"]
    inside = "".join(f" {line}\n" for line in block[1:-1])
    assert inside in (tmp_path / "a.json").read_text()
