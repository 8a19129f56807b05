"""Texts of files and records in Markdown, where they must not become markup."""

import re


def as_text(value: object) -> str:
    """A text as Markdown shows it: on one line, and no markup."""
    return re.sub(r"([\\`*_\[\]<>#|~&!$])", r"\\\1", " ".join(str(value).split()))
