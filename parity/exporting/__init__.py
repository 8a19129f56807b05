"""Detectors as files of other runtimes, each run before it is kept."""
