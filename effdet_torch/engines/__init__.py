"""Other forms of the network that compute the same: fast, ONNX, other runtimes."""
