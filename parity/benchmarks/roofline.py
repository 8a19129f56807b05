"""How much work a network is, what the machine could do at best, and where the rest goes: `effconv bench roofline`."""

import statistics
import time

import torch
from torch import Tensor, nn

from ...effdet_torch.engines.engines import make_engine
from ...effdet_torch.model import EfficientDet
from ..provenance import provenance
from .contest import probe, use_threads
from .network_records import Ceilings, ConvolutionWork, PassSeconds, RooflineRecord

COPIED = 256 << 20  # bytes of the copy that measures memory: more than any cache
TOP = 8  # operators named
FLOAT = 4  # bytes


def count_work(model: EfficientDet, size: tuple[int, int]) -> ConvolutionWork:
    """Multiply-adds of all convolutions for one image of `size`, and bytes they read and write at least once.

    Counted from shapes alone: each convolution's input, weights and output cross the memory once.
    """
    multiply_adds, bytes_moved = [], []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        multiply_adds.append(output.numel() * module.weight[0].numel())
        bytes_moved.append(FLOAT * (inputs[0].numel() + module.weight.numel() + output.numel()))

    with torch.device("meta"):
        shadow = EfficientDet(model.config).eval()
    for module in shadow.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        shadow(torch.zeros(1, 3, *size, device="meta"))
    return ConvolutionWork(multiply_adds=float(sum(multiply_adds)), bytes_moved=float(sum(bytes_moved)))


def measure_roofline(
    model: str, size: tuple[int, int] | None, engine: str, threads: int, rounds: int, command: str
) -> RooflineRecord:
    """A record of one engine's forward pass on one image beside the machine's ceilings for its work."""
    use_threads(threads)
    torch.manual_seed(0)
    network = EfficientDet(model).eval()
    shape = size or network.config.image_size
    work = count_work(network, shape)
    runner, image = make_engine(engine, network, shape), torch.randn(1, 3, *shape)
    gflops, copied = probe(), _copy_speed()
    seconds = []
    with torch.inference_mode():
        for _ in range(rounds + 1):
            start = time.perf_counter()
            runner(image)
            seconds.append(time.perf_counter() - start)
        operators = _operators(runner, image)
    taken = statistics.median(seconds[1:])
    arithmetic, memory = 2 * work.multiply_adds / gflops / 1e9, work.bytes_moved / copied
    return RooflineRecord(
        what="one forward pass beside what arithmetic and memory allow at best",
        command=command,
        model=network.config.name,
        image_size=shape,
        engine=engine,
        threads=threads,
        work=work,
        ceilings=Ceilings(gflops=gflops, copied_gigabytes_per_second=copied / 1e9),
        seconds=PassSeconds(taken=taken, arithmetic=arithmetic, memory=memory),
        fraction=max(arithmetic, memory) / taken,
        operators=operators,
        provenance=provenance() | {"dtype": "float32"},
    )


def _copy_speed() -> float:
    """Bytes per second read and written by a copy, median of five."""
    source = torch.zeros(COPIED // FLOAT)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        target.copy_(source)
        seconds.append(time.perf_counter() - start)
    return 2 * COPIED / statistics.median(seconds[1:])


def _operators(runner: nn.Module, image: Tensor) -> dict[str, float]:
    """{operator: share of the time} of the most expensive ones, by PyTorch's profiler."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        runner(image)
    times = {each.key: float(each.self_cpu_time_total) for each in profiler.key_averages()}
    total = sum(times.values())
    return {name: times[name] / total for name in sorted(times, key=times.__getitem__, reverse=True)[:TOP]}
