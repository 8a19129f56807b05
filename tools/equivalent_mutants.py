"""Mutants that behave as the code does, each with why: for `record_mutants.py`."""

EQUIVALENT = {
    "effdet_torch/training/loss.py: turn = probability * (1 - probability) * torch.where(positive, -1.0, 1.0) -> "
    "turn = probability * (1 - probability) / torch.where(positive, -1.0, 1.0)": (
        "times 1 or -1 and divided by it are the same number"
    ),
}
