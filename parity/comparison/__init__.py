"""Two runs of a network beside each other: rows, limits and a verdict."""
