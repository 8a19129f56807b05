"""What benchmarks of processes of their own record: COCO metrics, converting, and a layer-by-layer comparison."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from ..plain import Key, Plain
from .contest_records import Probe


@dataclass(frozen=True, kw_only=True)
class ProcessFigure(Plain):
    """One finished process."""

    seconds: float  # of the evaluation it made; of the whole process for a conversion
    peak_bytes: float


@dataclass(frozen=True, kw_only=True)
class ConversionFigure(ProcessFigure):
    """One finished process of `effconv bench convert`."""

    printed_seconds: tuple[float, ...]  # measured inside a process that reads; none of one that converts


@dataclass(frozen=True, kw_only=True)
class MetricsEngineRow(Plain):
    """One implementation of the COCO metrics: medians of its processes, and pycocotools' over them."""

    metrics_engine: Annotated[str, Key("engine")]
    rounds: int
    seconds: float
    times_faster: float
    peak_megabytes: float
    times_smaller: float


@dataclass(frozen=True, kw_only=True)
class MetricsEnginesRecord(Plain):
    """`effconv bench coco`: implementations of the COCO metrics on made-up images."""

    what: str
    command: str
    images: int
    boxes: int
    crowds: int
    detections: int
    identical: Mapping[str, bool]  # by array, and "metrics": whether every round of all gave the same bits
    metrics: Mapping[str, float]  # of the first round, as `effconv eval` has them
    rounds: Mapping[str, int]  # by metrics engine
    probe_gflops: Probe
    rows: tuple[MetricsEngineRow, ...]
    figures: Mapping[str, tuple[ProcessFigure, ...]]  # by metrics engine
    metrics_engine_versions: Annotated[Mapping[str, str | None], Key("engine_versions")]
    provenance: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ConversionRow(Plain):
    """One quantity of ours beside TensorFlow's: medians in `unit`."""

    what: str
    unit: str
    effconv: float
    tensorflow: float
    ratio: float
    bar: str  # what is promised of the ratio; empty where nothing is


@dataclass(frozen=True, kw_only=True)
class ConversionRecord(Plain):
    """`effconv bench convert`: `tf2torch` beside TensorFlow's own reader with torch.save."""

    what: str
    command: str
    model: str
    checkpoint: str
    data_bytes: int  # of the checkpoint: raw weights and moving averages
    weight_bytes: int  # of the file that effconv writes
    rounds: int
    provenance: Mapping[str, Any]
    rows: tuple[ConversionRow, ...]
    figures: Mapping[str, tuple[ConversionFigure, ...]]  # by contestant


@dataclass(frozen=True, kw_only=True)
class ComparisonCostRecord(Plain):
    """`effconv bench parity`: one `effconv parity --layerwise` in a process of its own."""

    what: str
    command: str
    model: str
    checkpoint: str
    image_shape: tuple[int, int, int, int]  # images, channels, height, width
    layers: int
    verdict: str
    seconds: float
    peak_bytes: float
    peak_bytes_promised: float | None  # None where nothing is promised
    provenance: Mapping[str, Any]
