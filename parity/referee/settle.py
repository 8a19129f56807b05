"""Which of our values a tap stands for, and how it is handed over."""

from torch import Tensor

from .reference_run import ReferenceRun


def reference_of(run: ReferenceRun, key: str, output: Tensor) -> Tensor:
    """Our layer's value beside theirs: where ours ends with an activation, without it if that is nearer to theirs.

    Norms are modules of their own in most ports, and in some they end with the activation as ours do.
    """
    value = run.values[key]
    before = run.unactivated.get(key)
    if before is None or not comparable(output, value):
        return value
    theirs = output.double().reshape(value.shape)
    return before if float((theirs - before).abs().mean()) < float((theirs - value).abs().mean()) else value


def comparable(output: Tensor, value: Tensor) -> bool:
    """Whether the shapes are the same, but for axes of one."""
    return [size for size in output.shape if size != 1] == [size for size in value.shape if size != 1]


def like(value: Tensor, output: Tensor) -> Tensor | None:
    """A copy of our value to take the place of theirs; None where it cannot."""
    if not comparable(output, value):
        return None
    return value.reshape(output.shape).to(output.dtype, copy=True)
