"""JSON without NaN and infinity, written in one place."""

import ast
import math
from pathlib import Path

import pytest

from effconv.strict_json import as_read, finite, json_text

# What runs mutants imports nothing of the package that they are mutants of; it writes names and counts.
BEFORE_THE_PACKAGE = ("tools/mutant_tests.py", "tools/record_mutants.py")
CODE = ("convert", "effdet_torch", "parity", "commands", "tools")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_has_no_word_for_is_not_written(value: float) -> None:
    for write in (json_text, as_read):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write({"rows": [1.0, value]})
    assert json_text({"rows": [finite(1.0), finite(value)]}) == '{"rows": [1.0, null]}'


def test_values_as_they_are_read() -> None:
    assert as_read({1: (2, 3.5), "a": None}) == {"1": [2, 3.5], "a": None}


def writes_json(path: Path) -> list[str]:
    """Where a file makes JSON by itself."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in ("dump", "dumps", "JSONEncoder"):
            found += [ast.unparse(node)] if ast.unparse(node.value) == "json" else []
        if isinstance(node, ast.ImportFrom) and node.module == "json":
            found += [alias.name for alias in node.names]
    return found


def test_one_place_writes_json(repository: Path) -> None:
    files = [*repository.glob("*.py"), *(file for part in CODE for file in (repository / part).rglob("*.py"))]
    assert len(files) > 200
    found = {str(file.relative_to(repository)): writes_json(file) for file in files}
    assert {name for name, calls in found.items() if calls} == {"strict_json.py", *BEFORE_THE_PACKAGE}
