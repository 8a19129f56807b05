"""Where contestants compute and how: a device, a precision, time that includes its work, and its memory."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from ...effdet_torch.device import require_device
from ...errors import EffconvError

CPU = "cpu"
# How many times float32's rounding error that of a precision is: 24 bits beside 11 and 8.
COARSER = {"float32": 1, "tf32": 2**13, "bfloat16": 2**16}
OF_THE_CPU = ("onnxruntime", "openvino", "tensorflow")  # and of float32


class Machine(NamedTuple):
    """A device by PyTorch's name, and a precision, one of COARSER.

    In bfloat16 weights, maps and arithmetic are of that type, by conversion and not by autocast; in TF32 they are
    float32, and what convolutions and matrix products multiply is rounded.
    """

    device: str = CPU
    precision: str = "float32"

    @property
    def dtype(self) -> torch.dtype:
        """The type of weights and images."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    @property
    def dtype_name(self) -> str:
        """The same as `make_engine` calls it."""
        return "bfloat16" if self.precision == "bfloat16" else "float32"

    @property
    def is_cuda(self) -> bool:
        """Whether work is queued there, and memory is the device's own."""
        return torch.device(self.device).type == "cuda"

    def require(self, names: Sequence[str] = ()) -> None:
        """Raises EffconvError for a device that cannot be used, TF32 where there is none, and contestants of CPUs.

        From then on float32 is float32 there, but in `arithmetic`.
        """
        elsewhere = [name for name in names if name in OF_THE_CPU]
        if elsewhere and (self.device, self.precision) != (CPU, "float32"):
            raise EffconvError(
                f"{', '.join(elsewhere)}: only on the CPU in float32, found {self.device} in {self.precision}"
            )
        require_device(self.device)
        if self.precision == "tf32" and not self.is_cuda:
            raise EffconvError(
                f"precision tf32: of CUDA devices only, found {self.device}", parameters={"precision": "float32"}
            )

    @contextlib.contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Float32 is rounded to TF32 in the block, where that is asked for."""
        backends: tuple[Any, ...] = torch.backends.cudnn, torch.backends.cuda.matmul
        before = [each.allow_tf32 for each in backends]
        try:
            for each in backends:
                each.allow_tf32 = self.precision == "tf32"
            yield
        finally:
            for each, value in zip(backends, before, strict=True):
                each.allow_tf32 = value

    def complete(self, run: Callable[[], object]) -> Callable[[], None]:
        """`run`, until the device has done it."""

        def complete() -> None:
            run()
            if self.is_cuda:
                torch.cuda.synchronize(self.device)

        return complete

    def watched(self, run: Callable[[], Any]) -> tuple[Any, int]:
        """(what `run` gives, bytes of a GPU's memory that PyTorch had at most beyond those it had before; 0 on a CPU).

        What a CUDA graph works in is had while it is recorded: watch the first runs.
        """
        if not self.is_cuda:
            return run(), 0
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        before = self.allocated()
        found = run()
        torch.cuda.synchronize(self.device)
        return found, torch.cuda.max_memory_allocated(self.device) - before

    def allocated(self) -> int:
        """Bytes that tensors have of a GPU's memory now; 0 on a CPU."""
        return torch.cuda.memory_allocated(self.device) if self.is_cuda else 0

    def described(self) -> dict[str, str]:
        """Device and precision as records' provenance has them."""
        named = {"device_name": torch.cuda.get_device_name(self.device)} if self.is_cuda else {}
        return {"device": self.device, "dtype": self.precision, **named}


ON_THE_CPU = Machine()
