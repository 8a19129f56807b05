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
    "parity/ablation/run.py: on_disk = FinishedRows(study.rows, depends_on) if study.rows else None -> on_disk = "
    "FinishedRows(study.rows, depends_on) if study.rows else 0": ("only whether there is one is asked"),
    "parity/comparison/bounds.py: KEPT = 1 + 2.0**-20  # a bound is kept in float32, and must not be rounded down "
    "-> KEPT = 1 + 2.0**-21  # a bound is kept in float32, and must not be rounded down": (
        "not the same bounds, but as sound: it only has to be more than what rounding to float32 takes, 2**-24, "
        "and that of the bound's own float64; a verdict differs where an error is within a millionth of its bound "
        "alone"
    ),
    "parity/comparison/bounds.py: step = max(1, PART * size // max(1, output.numel())) -> step = max(1, PART * "
    "size // max(2, output.numel()))": ("of maps of one value or none, which one part holds either way"),
    'effdet_torch/preprocessing/png.py: chunks.insert(1, (b"PLTE", bytes(3))) -> chunks.insert(2, (b"PLTE", '
    "bytes(3)))": ("Pillow takes the palette after the indices as well as before; the format has it before"),
    'effdet_torch/preprocessing/bmp.py: mode, order = "L" if channels == 1 else "RGB", 1 if height < 0 else -1 '
    '-> mode, order = "L" if channels == 1 else "RGB", 2 if height < 0 else -1': ("Pillow looks at its sign alone"),
    "parity/comparison/explain.py: if after is None or order.get(after, -1) > order.get(first.layer.key, -1): -> "
    "if after is None or order.get(after, -1) > order.get(first.layer.key, 1):": (
        "for a layer that is none of the model's no change is considered in the first place, by the filter above"
    ),
    "parity/comparison/compare.py: return sorted(merged.values(), key=lambda row: order.get(row.layer.key, -1)) -> "
    "return sorted(merged.values(), key=lambda row: order.get(row.layer.key, -2))": (
        "before 0, the first layer, either way"
    ),
}
