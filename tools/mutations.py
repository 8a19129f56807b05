"""One-token changes of a module's source, for `record_mutants.py`."""

import ast
import io
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

OPERATORS = {
    **{"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "is": "is not", "in": "not in"},
    **{"and": "or", "or": "and", "+": "-", "-": "+", "*": "/", "/": "*", "//": "*", "<<": ">>", "|": "&", "&": "|"},
}
NAMES = {
    **{"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "any": "all", "all": "any"},
    **{"floor": "ceil", "ceil": "floor"},
}
CONSTANTS = {"True": "False", "False": "True", "None": "0"}  # whole numbers: the next
GUARDS = ("strict", "frozen", "kw_only", "cache")  # keywords that guard against the programmer, or only save time
STATEMENTS = {"break": "continue", "continue": "break"}


class Mutant(NamedTuple):
    """A changed module: `before` and `after` are the changed line, stripped; `place` counts equal changes from 0."""

    module: str  # its path from the root of the checkout
    line: int
    before: str
    after: str
    place: int
    source: str

    @property
    def name(self) -> str:
        """What it is called in records: the same as long as the line stays the same."""
        return f"{self.module}: {self.before} -> {self.after}" + (f" ({self.place + 1})" if self.place else "")


def mutants(module: str, source: str) -> Iterator[Mutant]:
    """Every mutant of a module, one for each token that can be changed, in the order of the source.

    Operators become their neighbours, whole numbers their successors, True and False each other, None 0; `not`, a minus
    sign and the end of a slice are dropped; min and max, any and all, break and continue change places. Types, imports,
    texts and GUARDS stay, and None beside `is`, where only the `is` is changed.
    """
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    data = source.encode()
    seen: dict[tuple[str, str], int] = {}
    for start, stop, new in sorted(set(_changes(source, starts))):
        changed = data[:start] + new.encode() + data[stop:]
        number = sum(each <= start for each in starts)
        before = lines[number - 1].strip()
        rest = data[starts[number - 1] : start] + new.encode() + data[stop : max(starts[number], stop)]
        after = rest.decode().strip()
        place = seen[before, after] = seen.get((before, after), -1) + 1
        yield Mutant(module, number, before, after, place, changed.decode())


def _changes(source: str, starts: list[int]) -> Iterator[tuple[int, int, str]]:
    """(start, stop, new text) of every change, in bytes."""

    def at(line: int, column: int) -> int:
        return starts[line - 1] + column

    tokens = []
    lines = source.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        line, column = token.start
        start = at(line, len(lines[line - 1][:column].encode()) if line <= len(lines) else 0)
        tokens.append((start, start + len(token.string.encode()), token.string))

    def span(node: ast.expr) -> tuple[int, int]:
        return at(node.lineno, node.col_offset), at(node.end_lineno or 0, node.end_col_offset or 0)

    def operators(left: ast.expr, right: ast.expr) -> Iterator[tuple[int, int, str]]:
        """The operator between two operands: `is not` and `not in` lose their `not`."""
        between = [each for each in tokens if span(left)[1] <= each[0] < span(right)[0]]
        found = [each for each in between if each[2] in OPERATORS]
        negated = [each for each in between if each[2] == "not"]
        if negated:
            yield negated[0][0], negated[0][1], ""
        elif found:
            yield found[0][0], found[0][1], OPERATORS[found[0][2]]

    for node in _code(ast.parse(source)):
        if isinstance(node, ast.BinOp):
            yield from operators(node.left, node.right)
        elif isinstance(node, ast.BoolOp):
            for left, right in zip(node.values, node.values[1:], strict=False):
                yield from operators(left, right)
        elif isinstance(node, ast.Compare):
            for left, right in zip([node.left, *node.comparators], node.comparators, strict=False):
                yield from operators(left, right)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
            start = span(node)[0]
            yield start, start + (3 if isinstance(node.op, ast.Not) else 1), ""
        elif isinstance(node, ast.Slice) and node.upper:
            yield (*span(node.upper), "")
        elif isinstance(node, ast.Constant) and (isinstance(node.value, int) or node.value is None):
            yield (*span(node), CONSTANTS.get(repr(node.value)) or str(node.value + 1))
        elif isinstance(node, ast.Name) and node.id in NAMES and isinstance(node.ctx, ast.Load):
            yield (*span(node), NAMES[node.id])
        elif isinstance(node, ast.Attribute) and node.attr in NAMES and isinstance(node.ctx, ast.Load):
            stop = span(node)[1]
            yield stop - len(node.attr), stop, NAMES[node.attr]
        elif isinstance(node, ast.Break | ast.Continue):
            start, stop = at(node.lineno, node.col_offset), at(node.end_lineno or 0, node.end_col_offset or 0)
            yield start, stop, STATEMENTS[source.encode()[start:stop].decode()]


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below one whose changes are a module's behaviour."""
    yield node
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _stays(node, name, child):
                yield from _code(child)


def _stays(node: ast.AST, name: str, child: ast.AST) -> bool:
    if isinstance(node, ast.Subscript) and name == "slice":
        return isinstance(node.value, ast.Name) and node.value.id.istitle()  # Mapping[...], but not TABLE[...]
    if isinstance(node, ast.Compare) and name == "comparators":
        identity = any(isinstance(each, ast.Is | ast.IsNot) for each in node.ops)
        return identity and isinstance(child, ast.Constant) and child.value is None
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("cast", "isinstance"):
        return True
    guard = isinstance(node, ast.keyword) and node.arg in GUARDS
    return guard or isinstance(node, ast.JoinedStr) or name in ("annotation", "returns", "bases")
