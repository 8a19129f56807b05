"""Anybody's PyTorch EfficientDet beside the official network."""
