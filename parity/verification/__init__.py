"""Whole claims: the demonstration, and verifying released checkpoints."""
