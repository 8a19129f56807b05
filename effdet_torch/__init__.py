"""EfficientDet in PyTorch with TensorFlow's exact semantics. Importing it imports nothing; its modules import torch."""
