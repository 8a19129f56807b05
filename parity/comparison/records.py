"""Records of comparisons layer by layer, as values with types."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

from ..plain import INLINED, REST, Plain


@dataclass(frozen=True, kw_only=True)
class Reference(Plain):
    """What is compared with (`Trace.source`)."""

    kind: str | None = None  # None where there is one kind only
    label: str
    more: Annotated[Mapping[str, Any], REST]  # which files and weights, as whoever ran it says

    @classmethod
    def of(cls, source: Mapping[str, Any]) -> Self:
        """A trace's source, which is anybody's where it was recorded."""
        more = {name: value for name, value in source.items() if name not in ("kind", "label")}
        return cls(kind=source.get("kind"), label=source["label"], more=more)

    @property
    def reading(self) -> str | None:
        """Who read the checkpoint: `reading.BY_TENSORFLOW` or `NOT_COVERED`; None where it is not known."""
        return self.more.get("reading")


@dataclass(frozen=True, kw_only=True)
class Candidate(Plain):
    """The side that is proven: what runs it, and its weights. One of the two digests, or none, is there."""

    label: str
    weights: str | None = None  # the file's name
    sha256: str | None = None  # of a file of PyTorch weights
    checkpoint_fingerprint: str | None = None  # of a checkpoint


@dataclass(frozen=True, kw_only=True)
class Images(Plain):
    """What both sides were run on."""

    label: str
    shape: tuple[int, int, int, int]  # (B, 3, H, W)


Side = Reference | Candidate | Images


@dataclass(frozen=True, kw_only=True)
class NoiseFigures(Plain):
    """Each side's own rounding; None where it is not finite."""

    candidate: float | None
    reference: float | None
    estimated: bool  # the reference exists in float32 only


@dataclass(frozen=True, kw_only=True)
class CheckFigures(Plain):
    """One comparison of one layer or gradient (`rows.Check`); None where a figure is not finite."""

    ok: bool
    error: float | None  # max |a - b| / max |b|
    rms: float | None
    cosine: float | None
    ulp: float | None
    limit: float | None
    times_bound: float | None  # None as well where the limit is for all elements
    noise: NoiseFigures | None


@dataclass(frozen=True, kw_only=True)
class SoundnessFigures(Plain):
    """One side's float32 beside its own float64; None where a figure is not finite."""

    ok: bool
    error: float | None
    times_bound: float | None


@dataclass(frozen=True, kw_only=True)
class Histogram(Plain):
    """How many values differ by how much, in decades."""

    check: str  # of which comparison
    low: float  # the first bin's lower edge, log10
    width: float  # of a bin, log10
    counts: tuple[int, ...]
    zeros: int  # equal values


@dataclass(frozen=True, kw_only=True)
class Heat(Plain):
    """Where in the image values differ."""

    check: str  # of which comparison
    values: tuple[tuple[float | None, ...], ...]  # (rows, columns): the largest of each cell; None: not finite


@dataclass(frozen=True, kw_only=True)
class Pictures(Plain):
    """What a layer is pictured with: its first failing check, or one that holds."""

    histogram: Histogram | None  # None where nothing could be compared
    heat: Heat | None  # None as well where the layer has no place in the image


@dataclass(frozen=True, kw_only=True)
class LayerRow(Plain):
    """One layer (`rows.Row`)."""

    layer: str
    official: str
    shape: tuple[int, ...]  # (B, H, W, C)
    ok: bool
    fault: str  # why it could not be compared; empty where it could
    checks: Mapping[str, CheckFigures]
    soundness: Mapping[str, SoundnessFigures]  # by side, "candidate" and "reference"
    pictures: Annotated[Pictures | None, INLINED] = None  # most of a record's size; None where left out


@dataclass(frozen=True, kw_only=True)
class VariableRow(Plain):
    """One variable's gradient (`backward.GradientRow`)."""

    variable: str
    official: str
    shape: tuple[int, ...]  # TensorFlow's
    ok: bool
    fault: str  # why it could not be compared; empty where it could
    checks: Mapping[str, CheckFigures]


@dataclass(frozen=True, kw_only=True)
class TensorFault(Plain):
    """One tensor that is not the checkpoint's. Where shapes and types agree, `differ` of `values` values differ."""

    tensor: str  # key in the candidate's state dict; empty where there is none
    official: str  # variable of the checkpoint; empty where there is none
    reason: str
    differ: int | None
    values: int | None


@dataclass(frozen=True, kw_only=True)
class WeightsByName(Plain):
    """What comparing tensors by name found."""

    compared: int  # tensors of either side
    differ: tuple[TensorFault, ...]  # in the order of the rule table
    read_by: str  # who read the checkpoint: `reading.BY_TENSORFLOW` or `NOT_COVERED`
    checkpoint: str  # the file's name
    checkpoint_fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Unexercised(Plain):
    """What of one convolution no output depends on; of the images, which colour channels are the same picture."""

    module: str  # path of the convolution; "images" for the colour channels
    weights: int = 0  # how many; 0 for the images
    of: int  # weights there are, or colour channels
    taps: tuple[tuple[int, int], ...] = ()  # (row, column) in the kernel that no input channel reaches
    channels: tuple[Any, ...] = ()  # input channels that reach no tap; for the images, pairs of colours


@dataclass(frozen=True, kw_only=True)
class ExplanationRow(Plain):
    """A change that makes the first difference vanish (`explain.Explanation`)."""

    change: str
    summary: str
    side: str  # "reference" or "candidate": which of the two computes so
    from_layer: str  # where the difference began
    first_failure_after: str | None  # where the next one begins; None when the change explains everything
    explains: bool


@dataclass(frozen=True, kw_only=True)
class TriedRow(Plain):
    """A known mistake, and what making it did to the first difference (`tried.py` says which effects there are)."""

    change: str
    summary: str
    side: str | None  # "reference" or "candidate": which of the two computed so; None where it was not tried
    effect: str
    layer: str | None  # where the two part first with it; None where nothing differs, or where it was not tried
    error: float | None  # there, max |a - b| / max |b|; None as well where the two cannot be compared
    reason: str = ""  # why it was not tried


@dataclass(frozen=True, kw_only=True)
class BackboneRecord(Plain):
    """A backbone that was trained alone, in a detector whose other weights are random."""

    file: str
    sha256: str | None  # None of a folder
    names: str | None  # whose names its tensors have
    tensors: int
    left_out: tuple[str, ...]  # its tensors that no detector has
    rest: str  # where the other weights are from


@dataclass(frozen=True, kw_only=True)
class ComparisonRecord(Plain):
    """`effconv parity`: two runs of a network, layer by layer."""

    model: str
    ok: bool
    verdict: str
    first_failure: str | None  # our name of the layer
    reference: Reference
    candidate: Candidate
    images: Images
    rows: tuple[LayerRow, ...]
    tensors: WeightsByName | None  # None where they were not compared by name
    unexercised: tuple[Unexercised, ...]  # what the images do not reach
    explanations: tuple[ExplanationRow, ...]
    provenance: Mapping[str, Any]
    backward: tuple[VariableRow, ...] = ()
    tried: tuple[TriedRow, ...] = ()  # empty where nothing was to be explained, and in records of before
    backbone: BackboneRecord | None = None

    def without_pictures(self) -> Self:
        """The record without histograms and heat maps."""
        return replace(self, rows=tuple(replace(row, pictures=None) for row in self.rows))


@dataclass(frozen=True, kw_only=True)
class TapRow(Plain):
    """Which module of another network is which layer of ours (`taps.Tap`)."""

    layer: str
    module: str
    call: int  # which of its calls, from 0
    evidence: str


@dataclass(frozen=True, kw_only=True)
class ModuleComparisonRecord(ComparisonRecord):
    """`effconv.compare`: another network beside ours."""

    pairing: tuple[TapRow, ...]
    unpaired: tuple[str, ...]  # our layers that are part of the next one there
