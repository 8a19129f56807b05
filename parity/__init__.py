"""Proof: our activations beside the official ones, and what converting costs beside TensorFlow."""
