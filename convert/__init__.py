"""TensorFlow checkpoints in, PyTorch state dicts out, and back. Imports neither TensorFlow nor torch."""
