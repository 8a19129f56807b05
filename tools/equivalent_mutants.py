"""Mutants that behave as the code does, each with why: for `record_mutants.py`."""

EQUIVALENT = {
    "effdet_torch/training/loss.py: turn = probability * (1 - probability) * torch.where(positive, -1.0, 1.0) -> "
    "turn = probability * (1 - probability) / torch.where(positive, -1.0, 1.0)": (
        "times 1 or -1 and divided by it are the same number"
    ),
    "effdet_torch/engines/fast_ops.py: convolved: Tensor = torch.mkldnn_convolution(x, self.weight, self.bias, (0, 0), "
    "(1, 1), (1, 1), 1) -> convolved: Tensor = torch.mkldnn_convolution(x, self.weight, self.bias, (0, 0), (1, 1), "
    "(1, 2), 1)": "the dilation of a 1x1 kernel",
    "parity/comparison/fast_soundness.py: exact, bound = _exact_and_bound(twins[name], inputs, "
    'given.pop(f"{name} made", None)) -> exact, bound = _exact_and_bound(twins[name], inputs, '
    'given.pop(f"{name} made", 0))': ("what is not made is not looked at: parts that take it have always made it"),
}
