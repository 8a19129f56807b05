"""How other PyTorch ports name the tensors of an EfficientDet: a file per port."""
