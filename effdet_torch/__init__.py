"""EfficientDet in PyTorch with TensorFlow's exact semantics. Importing this package imports nothing; its modules import torch."""
