"""The version of effconv, and nothing else."""

__version__ = "0.1.0"
