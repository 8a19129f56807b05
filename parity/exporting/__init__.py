"""Detectors as files of other runtimes that TensorFlow writes, each run before it is kept."""
