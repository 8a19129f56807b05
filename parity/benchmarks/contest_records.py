"""What benchmarks of contestants taking turns record: input, suppression, the whole evaluation, and prediction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from ..plain import INLINED, Plain


@dataclass(frozen=True, kw_only=True)
class Probe(Plain):
    """How free the machine was: GFLOP/s of a float32 matrix product before the turns and after them."""

    before: float
    after: float
    threads: int | None = None  # of the product; one where nothing is said


@dataclass(frozen=True, kw_only=True)
class Turn(Plain):
    """One run of a contestant."""

    seconds: float
    processor_seconds: float  # of all threads of the process; about `seconds` where one thread works


@dataclass(frozen=True, kw_only=True)
class ContestRow(Plain):
    """One contestant: its median, beside that of one of ours."""

    contestant: str
    seconds_per_item: float
    beside: str  # the contestant it is compared with, which may be itself
    ratio: float  # of its median to that contestant's
    processors_used: float  # processor seconds per second, the median


@dataclass(frozen=True, kw_only=True)
class MeasuredContest(Plain):
    """The part of a record that all contests share."""

    rounds: int
    items: int  # of one turn: images, mostly
    probe_gflops: Probe
    rows: tuple[ContestRow, ...]
    turns: Mapping[str, tuple[Turn, ...]]  # by contestant
    provenance: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class InputRecord(Plain):
    """`effconv bench input`: encoded images to the network's input."""

    what: str
    command: str
    model: str
    image_size: tuple[int, int]  # height, width
    images: int
    megapixels_per_image: float
    identical_inputs: int  # images whose input is TensorFlow's bit for bit
    graph_optimiser: str  # TensorFlow's: "off"
    decoder_versions: Mapping[str, str | None]
    contest: Annotated[MeasuredContest, INLINED]


@dataclass(frozen=True, kw_only=True)
class NmsRecord(Plain):
    """`effconv bench nms`: suppression of the made-up candidates of one image."""

    what: str
    command: str
    candidates: int
    classes: int
    max_outputs: int
    identical_to_tensorflow: bool  # soft-NMS: the same boxes and scores bit for bit
    left_out: Mapping[str, str]  # contestants that could not be had, and why
    contest: Annotated[MeasuredContest, INLINED]


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord(Plain):
    """`effconv bench eval`: encoded image to detections beside TensorFlow's whole pipeline."""

    what: str
    command: str
    model: str
    image_size: tuple[int, int]  # height, width
    checkpoint: str
    images: int
    detections_agreeing: float  # share of our detections that TensorFlow's has too, 0 to 1
    precision: str
    onednn: str  # TF_ENABLE_ONEDNN_OPTS
    engine: str | None = None  # runs our network; the model as it is written where a record does not say
    contest: Annotated[MeasuredContest, INLINED]


@dataclass(frozen=True, kw_only=True)
class PredictRecord(Plain):
    """`effconv bench predict`: encoded image to boxes beside other implementations, at one batch size or several."""

    what: str
    command: str
    model: str
    image_size: tuple[int, int]  # height, width
    checkpoint: str
    images: int
    threads: int
    left_out: Mapping[str, str]  # peers that could not be had, and why
    notes: Mapping[str, str]  # by contestant: what a reader of its figures has to know
    # By our contestant: until the first image's boxes are there, the making of the engine included.
    seconds_to_begin: Mapping[str, float] | None = None
    batch: int = 1  # images at once, of the contest that follows
    contest: Annotated[MeasuredContest, INLINED]
    other_batches: Mapping[str, MeasuredContest] | None = None  # by batch size

    def by_batch(self) -> dict[int, MeasuredContest]:
        """Every contest by its batch size."""
        others = {int(batch): contest for batch, contest in (self.other_batches or {}).items()}
        return {self.batch: self.contest, **others}
