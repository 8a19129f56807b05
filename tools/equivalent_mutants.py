"""Mutants that behave as the code does, each with why: for `record_mutants.py`."""

EQUIVALENT: dict[str, str] = {}
