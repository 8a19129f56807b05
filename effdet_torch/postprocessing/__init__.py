"""The network's outputs to detections."""
