"""Our side of a comparison: every layer of an EfficientDet, as it is computed.

The model runs whole, by its own `forward`, so its wiring is compared too. Between layers it waits: a walk yields each
activation and goes on when asked for the next, so several runs can be compared in lockstep, each one layer deep.
"""

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...convert.layers import Layer
from ...effdet_torch.model import EfficientDet
from ...errors import EffconvError
from ..gaps import Array


class ComputedLayer(NamedTuple):
    """One computed layer: its key and its activation, (B, C, H, W)."""

    key: str
    activation: Tensor


Walk = Generator[ComputedLayer, Tensor | None, None]


class _Abandoned(BaseException):
    """Unwinds a forward pass whose walk was closed; not an Exception, so that no model's own code catches it."""


def walk(model: EfficientDet, images: Tensor, layers: Sequence[Layer]) -> Walk:
    """Run `model` on `images` (B, 3, H, W), yielding a ComputedLayer per layer, in the order of computation.

    A tensor sent into the generator takes the activation's place from there on. The model runs in a thread of its own
    that holds still while the caller looks, so memory stays that of a plain forward pass. Raises KeyError for a layer
    whose module the model lacks, and whatever the model raises.
    """
    wanted: dict[str, list[Layer]] = {}
    for layer in layers:
        wanted.setdefault(layer.module, []).append(layer)
    modules = dict(model.named_modules())
    hooked = [(modules[path], rows) for path, rows in wanted.items()]
    steps: queue.SimpleQueue[ComputedLayer | BaseException | None] = queue.SimpleQueue()
    replies: queue.SimpleQueue[Tensor | _Abandoned | None] = queue.SimpleQueue()

    def exchange(step: ComputedLayer) -> Tensor | None:
        steps.put(step)
        reply = replies.get()
        if isinstance(reply, _Abandoned):
            raise reply
        return reply

    threads = torch.get_num_threads()

    def run() -> None:
        torch.set_num_threads(threads)  # a new thread starts with the process's default
        try:
            with torch.inference_mode():
                model(images)
        except _Abandoned:
            pass  # nobody waits; and kept in the queue, its traceback would keep every activation
        except BaseException as error:  # noqa: BLE001  (handed to the caller, who raises it)
            steps.put(error)
        else:
            steps.put(None)

    worker = threading.Thread(target=run, daemon=True)
    handles = [
        module.register_forward_hook(_hook(rows, list(model.config.levels), exchange, worker))
        for module, rows in hooked
    ]
    worker.start()
    try:
        while isinstance(step := steps.get(), ComputedLayer):
            reply = yield step
            replies.put(reply)
            del step, reply  # or they would be kept while the next layer is computed
        if step is not None:
            raise step
    finally:
        replies.put(_Abandoned())  # read only where the model still waits for a reply
        worker.join()
        for handle in handles:
            handle.remove()


def _hook(
    rows: list[Layer], levels: list[int], exchange: Callable[[ComputedLayer], Tensor | None], worker: threading.Thread
) -> Any:
    shared = rows[0].level is not None
    calls = iter(levels)  # a shared module is called once per level, lowest first

    def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor | None:
        if threading.current_thread() is not worker:  # another walk of the same model
            return None
        level = next(calls, None) if shared else None
        replaced = None
        for row in rows:
            if row.level == level:
                replaced = exchange(ComputedLayer(row.key, output))
        return replaced

    return hook


class Lockstep:
    """A walk that is asked for its layers by name, in the order of the reference it is compared with.

    A model may be wrong in which layers it computes, so a layer it leaves out is reported as None and waited for no
    longer, and one computed twice counts once. With `rounding`, every layer's output is rounded to that type, once.
    """

    def __init__(
        self,
        model: EfficientDet,
        images: NDArray[np.float32],
        layers: Sequence[Layer],
        *,
        rounding: torch.dtype | None = None,
    ):
        parameter = next(model.parameters())
        self._dtype, self._device = parameter.dtype, parameter.device
        self._place = {layer.key: place for place, layer in enumerate(layers)}
        self._walk = walk(model, torch.from_numpy(images).to(self._device, self._dtype), layers)
        self._step: ComputedLayer | None = None
        self._replacement: Array | None = None
        self._started = False
        self._rounding = rounding
        self.stopped = ""  # why the model gave up, if it did

    def at(self, key: str) -> Array | None:
        """The activation of layer `key`, (B, H, W, C); None when the model does not compute it.

        Half-precision activations come as float32, rounded ones in what they are rounded to. Raises EffconvError when
        the images do not suit the model.
        """
        if not self._started:
            self._started = True
            self._advance()
        while self._step and self._place[self._step.key] < self._place[key]:
            self._advance()
        if not self._step or self._step.key != key:
            return None
        own = self._step.activation.detach()
        activation = (own if self._rounding is None else own.to(self._rounding)).permute(0, 2, 3, 1).cpu()
        return (activation if activation.dtype == torch.float64 else activation.float()).numpy()

    def steps(self) -> Generator[tuple[str, Array | None], None, None]:
        """Every layer in order, with its activation, or None where the model does not compute it."""
        try:
            for key in self._place:
                yield key, self.at(key)
        finally:
            self.close()

    def replace(self, key: str, array: Array) -> None:
        """Give the layers after `key` this (B, H, W, C) as its output, once they are asked for."""
        if self._step and self._step.key == key:
            self._replacement = array

    def _advance(self) -> None:
        try:
            if self._step is None:
                self._step = next(self._walk)
            else:
                replacement = self._take_replacement(self._step.activation)
                self._step = None
                self._step = self._walk.send(replacement)
        except StopIteration:
            self._step = None
        except EffconvError:
            raise
        except RuntimeError as error:  # PyTorch's own: maps that do not fit together, out of memory
            self._step = None
            self.stopped = f": its run stopped ({str(error).splitlines()[0]})"

    def _take_replacement(self, own: Tensor) -> Tensor | None:
        array, self._replacement = self._replacement, None
        if array is None:
            if self._rounding:  # where it is, for a copy of a large map is a gigabyte
                with torch.inference_mode():
                    own.copy_(own.to(self._rounding))
            return None
        last = own.is_contiguous(memory_format=torch.channels_last) and not own.is_contiguous()
        memory_format = torch.channels_last if last else torch.contiguous_format
        precision = np.float64 if self._dtype == torch.float64 else np.float32
        # One copy, in the model's axis order and precision; it also makes the memory writable, as PyTorch wants it.
        tensor = torch.from_numpy(np.array(array.transpose(0, 3, 1, 2), precision, order="C"))
        return tensor.to(self._device, self._dtype, memory_format=memory_format)

    def close(self) -> None:
        """Abandon what is left of the run."""
        self._walk.close()
