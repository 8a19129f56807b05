"""What benchmarks of networks record: inference, training, an ablation's decoding, and the machine's ceilings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from ..plain import INLINED, Key, Plain
from .contest_records import Probe, Turn


@dataclass(frozen=True, kw_only=True)
class InferenceRow(Plain):
    """One contestant's forward passes at one batch size: medians."""

    contestant: str
    batch: int
    scope: str  # what of the way from bytes to boxes is measured
    milliseconds_per_image: float
    quartiles: tuple[float, float]  # the lower and the upper, milliseconds per image
    images_per_second: float
    peak_megabytes: float  # of a fresh process
    error_beside_the_model: float | None  # relative, the largest; None for what computes another function
    beside: str  # the contestant it is compared with, at the same batch size
    times_faster: float


@dataclass(frozen=True, kw_only=True)
class Entrant(Plain):
    """Which implementation a contestant is, and what a reader of its figures has to know."""

    version: str
    note: str


@dataclass(frozen=True, kw_only=True)
class ParameterCounts(Plain):
    """How many parameters the encoder (backbone) and the decoder (BiFPN and heads) have."""

    encoder: int
    decoder: int


@dataclass(frozen=True, kw_only=True)
class InferenceRecord(Plain):
    """`effconv bench inference`: forward passes, ours beside other implementations."""

    what: str
    command: str
    model: str
    image_size: tuple[int, int]  # height, width
    checkpoint: str
    threads: int
    rounds: int
    parameters: ParameterCounts
    contestants: Mapping[str, Entrant]
    left_out: Mapping[str, str]  # contestants that could not be had, and why
    probe_gflops: Probe
    rows: tuple[InferenceRow, ...]  # by batch size and contestant
    turns: Mapping[str, Mapping[str, tuple[Turn, ...]]]  # by batch size and contestant
    provenance: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrainingRow(Plain):
    """One contestant's training steps: medians."""

    contestant: str
    forward_milliseconds: float  # outputs and losses
    backward_milliseconds: float  # gradients, update and averages
    images_per_second: float
    times_faster: float  # than effdet; 1 without it
    peak_megabytes: float  # of a fresh process, or of the device
    loss: float  # the first, weight decay left out


@dataclass(frozen=True, kw_only=True)
class TrainingRecord(Plain):
    """`effconv bench training`: steps on one batch, ours beside other implementations."""

    what: str
    command: str
    model: str
    image_size: tuple[int, int]  # height, width
    batch: int
    threads: int
    rounds: int
    left_out: Mapping[str, str]  # contestants that could not be had, and why
    probe_gflops: Probe
    rows: tuple[TrainingRow, ...]
    turns: Mapping[str, tuple[Turn, ...]]  # by contestant and "forward" or "step"
    provenance: Mapping[str, Any]  # with device and dtype


@dataclass(frozen=True, kw_only=True)
class ImageSeconds(Plain):
    """Seconds per image, medians."""

    network: float
    decoding: float


@dataclass(frozen=True, kw_only=True)
class AblationCostRecord(Plain):
    """`effconv bench ablation`: one change of decoding over kept outputs beside the network it does without."""

    what: str
    command: str
    model: str
    image_size: tuple[int, int]  # height, width
    checkpoint: str
    ablation: str
    images: int
    different_images: int
    rounds: int
    probe_gflops: Probe
    seconds_per_image: ImageSeconds
    share: float  # of the decoding's seconds in the network's
    promised: float  # what the share stays below
    turns: Mapping[str, tuple[Turn, ...]]  # "network" and "decoding"
    provenance: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ConvolutionWork(Plain):
    """What all convolutions do for one image, counted from shapes alone."""

    multiply_adds: float
    bytes_moved: Annotated[float, Key("bytes")]  # read and written at least once


@dataclass(frozen=True, kw_only=True)
class Ceilings(Plain):
    """What the machine was found to do at best."""

    gflops: float  # of a matrix product
    copied_gigabytes_per_second: float


@dataclass(frozen=True, kw_only=True)
class PassSeconds(Plain):
    """Seconds of one forward pass: the median, and what the ceilings allow."""

    taken: float
    arithmetic: float
    memory: float


@dataclass(frozen=True, kw_only=True)
class RooflineRecord(Plain):
    """`effconv bench roofline`: one forward pass beside what arithmetic and memory allow."""

    what: str
    command: str
    model: str
    image_size: tuple[int, int]  # height, width
    engine: str  # the network's form
    threads: int
    work: Annotated[ConvolutionWork, INLINED]
    ceilings: Ceilings
    seconds: PassSeconds
    fraction: float  # of the time taken that the nearer ceiling explains
    operators: Mapping[str, float]  # share of the time of the most expensive ones
    provenance: Mapping[str, Any]
