"""The network's speed and memory, ours beside the peers', in one interleaved run: `effconv bench inference`."""

import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...effdet_torch.config import get_config
from ...effdet_torch.engines.engines import ENGINES, Called, make_engine
from ...effdet_torch.engines.fast import fast
from ...effdet_torch.engines.fast_ops import FastResample, ZeroTapConv2d
from ...effdet_torch.model import EfficientDet
from ...errors import EffconvError
from ...loading import load
from ..comparison.engine import output_error
from ..provenance import provenance, version
from ..traces.official import official_variables
from ..traces.trace import nhwc
from .contest import probe, require_tensorflow, take_turns, use_threads
from .equal_work import other_work, require_outputs, work_of
from .memory import batch_in_memory
from .peers import PEERS
from .process import MEGABYTE, PROGRAMS, SEED, make_checkpoint, run_process

TENSORFLOW = "tensorflow"
SYMMETRIC = "fast, symmetric padding"  # wrong on purpose: what SAME costs
SCOPE = "network only"


class Contestant(NamedTuple):
    """A network, called with images, and what a reader of its figures has to know."""

    network: nn.Module
    version: str
    note: str


class Contest(NamedTuple):
    """What is measured. `names` are engines of ours, SYMMETRIC, peers, or a peer with ", channels_last"."""

    model: str
    checkpoint: Path | None
    size: tuple[int, int] | None
    batches: Sequence[int]
    names: Sequence[str]
    rounds: int
    threads: int


def contestant(name: str, model: EfficientDet, checkpoint: Path, size: tuple[int, int]) -> Contestant:
    """The contestant of that name, `model` being of `checkpoint`. Raises EffconvError when it cannot be had."""
    if name in ENGINES:
        return Contestant(make_engine(name, model, size), f"PyTorch {torch.__version__}", "")
    if name == SYMMETRIC:
        return Contestant(symmetric(model), f"PyTorch {torch.__version__}", "another function: shows what SAME costs")
    if name == TENSORFLOW:
        return _tensorflow(model, checkpoint)
    peer, _, layout = name.partition(", ")
    if peer not in PEERS or layout not in ("", "channels_last"):
        raise EffconvError(f"no contestant is called {name!r}; there are {', '.join([*ENGINES, TENSORFLOW, *PEERS])}")
    found = PEERS[peer](model, size)
    return Contestant(ChannelsLast(found.network) if layout else found.network, found.version, found.note)


def _tensorflow(model: EfficientDet, checkpoint: Path) -> Contestant:
    require_tensorflow()
    from ..reference.graphs import compiled_network

    variables, _ = official_variables(checkpoint, model.config)
    run = compiled_network(model.config, variables)

    def forward(images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        return by_level(run(nhwc(images.numpy())), model.config.levels)

    return Contestant(Called(model, forward), str(version("tensorflow")), "one graph, constants folded, oneDNN on")


def by_level(outputs: Mapping[str, Any], levels: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
    """TensorFlow's outputs, by name, as our model gives them."""
    classes, boxes = (
        [torch.from_numpy(np.array(outputs[f"{kind}_outputs/{level}"])).permute(0, 3, 1, 2) for level in levels]
        for kind in ("class", "box")
    )
    return classes, boxes


class ChannelsLast(nn.Module):
    """A network with its weights and images in channels-last memory."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Any:
        return self.network(images.contiguous(memory_format=torch.channels_last))


def symmetric(model: EfficientDet) -> nn.Module:
    """The fast form with as much padding on either side everywhere: the shapes are the same, the values are not."""
    network = fast(model)
    parts = {name: part for name, part in network.named_modules() if isinstance(part, ZeroTapConv2d)}
    for name, part in parts.items():
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, SymmetricConv2d(part))
    for module in network.modules():
        if isinstance(module, FastResample):
            module.pool = lambda x, kernel, stride: F.max_pool2d(x, kernel, stride, 1)  # type: ignore[method-assign]
    return network


class SymmetricConv2d(nn.Module):
    """A convolution of stride 2 with its own kernel and as much padding on either side."""

    def __init__(self, given: ZeroTapConv2d):
        super().__init__()
        self.weight, self.bias, self.stride, self.groups = given.weights[0], given.bias, given.stride, given.groups
        self.padding = (given.kernel[0] - 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, 1, self.groups)


def measure_inference(contest: Contest, command: str) -> dict[str, Any]:
    """A record of all contestants on the same images, taking turns; rows by batch size and contestant.

    Outputs of each are compared with our model's first, level by level. Raises EffconvError for bad input, and where a
    contestant's outputs are others than rounding explains; one that is not installed is named in `left_out`.
    """
    if TENSORFLOW in contest.names and "tensorflow" in sys.modules:
        raise EffconvError("TensorFlow is running already, with other settings: measure in a fresh process")
    largest = batch_in_memory(max(contest.batches), contest.size or get_config(contest.model).image_size)
    with largest, tempfile.TemporaryDirectory() as folder:
        use_threads(contest.threads)
        if contest.checkpoint is None:
            make_checkpoint(contest.model, f"{folder}/model")
        return _measure(contest, contest.checkpoint or Path(folder), command)


def _measure(contest: Contest, checkpoint: Path, command: str) -> dict[str, Any]:
    model = load(checkpoint, model=contest.model)
    size = contest.size or model.config.image_size
    entered, left_out = _enter(contest.names, model, checkpoint, size)
    before, rows, turns = probe(), [], {}
    for batch in contest.batches:
        images = torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0))
        agreement = _errors(entered, model, images)
        found = take_turns({name: _forward(each.network, images) for name, each in entered.items()}, contest.rounds)
        for name, each in found.items():
            seconds = [turn.seconds / batch for turn in each]
            low, middle, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else seconds * 3
            rows.append(
                {
                    "contestant": name,
                    "batch": batch,
                    "scope": SCOPE,
                    "milliseconds_per_image": 1e3 * middle,
                    "quartiles": [1e3 * low, 1e3 * high],
                    "images_per_second": 1 / middle,
                    "peak_megabytes": _peak(contest, checkpoint, name, size, batch),
                    "error_beside_the_model": agreement[name],
                }
            )
        turns[str(batch)] = {name: [turn._asdict() for turn in each] for name, each in found.items()}
    return {
        "what": "forward passes, contestants taking turns in one process, medians; peak memory of fresh processes",
        "command": command,
        "model": model.config.name,
        "image_size": list(size),
        "checkpoint": contest.checkpoint.name if contest.checkpoint else f"random values, seed {SEED}",
        "threads": contest.threads,
        "rounds": contest.rounds,
        "parameters": parameters(model),
        "contestants": {name: {"version": each.version, "note": each.note} for name, each in entered.items()},
        "left_out": left_out,
        "probe_gflops": {"before": before, "after": probe(), "threads": contest.threads},
        "rows": with_ratios(rows),
        "turns": turns,
        "provenance": provenance() | {"dtype": "float32"},
    }


def parameters(model: EfficientDet) -> dict[str, int]:
    """How many parameters the encoder (backbone) and the decoder (BiFPN and heads) have."""
    encoder = sum(each.numel() for each in model.backbone.parameters())
    return {"encoder": encoder, "decoder": sum(each.numel() for each in model.parameters()) - encoder}


def with_ratios(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with how many times faster they are than effdet at the same batch, or than our eager model without it."""
    found = []
    for row in rows:
        beside = {each["contestant"]: each for each in rows if each["batch"] == row["batch"]}
        base = next(name for name in ("effdet", "eager", next(iter(beside))) if name in beside)
        ratio = beside[base]["milliseconds_per_image"] / row["milliseconds_per_image"]
        found.append({**row, "beside": base, "times_faster": ratio})
    return found


def _enter(
    names: Sequence[str], model: EfficientDet, checkpoint: Path, size: tuple[int, int]
) -> tuple[dict[str, Contestant], dict[str, str]]:
    entered, left_out = {}, {}
    for name in names:
        try:
            entered[name] = contestant(name, model, checkpoint, size)
        except EffconvError as error:
            left_out[name] = str(error)
    if not entered:
        raise EffconvError(f"nothing is left to measure: {'; '.join(left_out.values())}")
    return entered, left_out


def _forward(network: nn.Module, images: Tensor) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode():
            return network(images)

    return run


def _errors(entered: Mapping[str, Contestant], model: EfficientDet, images: Tensor) -> dict[str, float | None]:
    """Each contestant's largest relative difference from our model; None for what computes another function.

    Raises EffconvError where it is none of rounding, image by image; for the other function, where a shape differs.
    """
    work = work_of(model, images)
    with torch.inference_mode():
        expected = [level for kind in model(images) for level in kind]
        errors: dict[str, float | None] = {}
        for name, each in entered.items():
            outputs = each.network(images)
            found = [level for kind in outputs for level in kind]
            shapes = [[tuple(level.shape) for level in side] for side in (found, expected)]
            if shapes[0] != shapes[1]:
                raise other_work(name, f"outputs of shapes {shapes[1]}", f"found {shapes[0]}")
            if name != SYMMETRIC:
                require_outputs(name, outputs, work)
            pairs = zip(found, expected, strict=True)
            errors[name] = None if name == SYMMETRIC else max(output_error(one, other) for one, other in pairs)
    return errors


def _peak(contest: Contest, checkpoint: Path, name: str, size: tuple[int, int], batch: int) -> float:
    # In a process of its own, whose peak memory is that contestant's.
    words = [name, contest.model, str(checkpoint), *map(str, (*size, batch, contest.threads))]
    return run_process(f"{PROGRAMS}.run_network", *words).peak_bytes / MEGABYTE
