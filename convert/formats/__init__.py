"""Containers of checkpoints, byte by byte."""
