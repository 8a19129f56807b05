"""The official computation in TensorFlow: the only folder that imports it."""
