"""What HTML pages are made of: their parts on disk, plotly's script, nested values as lists."""

from html import escape
from importlib import resources
from importlib.util import find_spec
from typing import Any

from ...errors import EffconvError
from ...strict_json import json_text

ASSETS = resources.files(__package__.partition(".")[0]) / "parity" / "rendering" / "assets"

NO_PLOTLY = "an HTML page needs plotly, which is not installed: pip install plotly"


def asset(name: str) -> str:
    """The text of one file that is part of the page."""
    return (ASSETS / name).read_text(encoding="utf-8")


def require_plotly() -> None:
    """Raises EffconvError when the plotting library is not there, which every page has."""
    if find_spec("plotly") is None:
        raise EffconvError(NO_PLOTLY)


def plotly_script() -> str:
    """The plotting library's own source, to be part of the page."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise EffconvError(NO_PLOTLY) from error
    return str(get_plotlyjs())


def script_json(value: Any) -> str:
    """JSON that is safe inside a <script>: no text in it can end the element or begin a comment."""
    return json_text(value, separators=(",", ":")).replace("<", r"\u003c")


def definitions(values: dict[str, Any]) -> str:
    """Nested plain values as a list of names and what they are."""
    items = (f"<dt>{escape(name)}</dt><dd>{nested(value)}</dd>" for name, value in values.items())
    return f"<dl>{''.join(items)}</dl>"


def nested(value: Any) -> str:
    """One value of a definition: a list of its own, a line of plain values, or text."""
    if isinstance(value, dict):
        return definitions(value)
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return f"<ul>{''.join(f'<li>{nested(item)}</li>' for item in value)}</ul>"
    return ", ".join(plain(item) for item in value) if isinstance(value, list) else plain(value)


def plain(value: Any) -> str:
    """A plain value as the record's JSON would have it, text without quotes."""
    return escape(value if isinstance(value, str) else json_text(value))
