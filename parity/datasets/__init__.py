"""Datasets: COCO's format, its archives, drawn shapes."""
