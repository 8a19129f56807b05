"""Markdown tables: a cell under every name, and no cell that makes two."""

import pytest

from effconv.parity.rendering.markdown import markdown_table, markdown_text


def test_a_table_has_a_heading_and_a_line_per_row() -> None:
    assert markdown_table(("a", ""), [(1, "x"), ("b|c", 2.5)]) == "| a |  |\n|---|---|\n| 1 | x |\n| b\\|c | 2.5 |"
    assert markdown_table(("a",), []) == "| a |\n|---|"


@pytest.mark.parametrize("row", [(1,), (1, 2, 3), ()])
def test_a_row_of_another_length_is_refused(row: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"a row of {len(row)} cells in a table of 2"):
        markdown_table(("a", "b"), [(1, 2), row])


def test_text_is_shown_as_it_is_and_begins_no_line() -> None:
    assert markdown_text("a_b*.jpg: 4 - 5\n# <b>") == r"a\_b\*.jpg: 4 - 5 # \<b\>"
