"""Records of ablations: what each change costs, and how a gap between two pipelines is split."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from ...errors import EffconvError
from .significance import Interval


@dataclass(frozen=True, kw_only=True)
class AblationRow:
    """One evaluation: of the baseline (`stage` is None), or of changes made together."""

    name: str
    stage: str | None  # of `registry.STAGES`, of the last change
    summary: str  # what the changes are, in words
    published: tuple[str, ...]  # names of the published rows that a change may be read against
    metrics: Mapping[str, float]  # fractions of one; -1 where there is nothing to measure on
    differences: Mapping[str, Interval]  # from the baseline, by metric
    network_seconds_per_image: float
    decode_seconds_per_image: float
    engine: str | None = None  # that ran the network; None in records made when all ran as they are written

    @property
    def cost(self) -> Interval:
        """What the changes do to AP."""
        return self.differences["AP"]

    def plain(self) -> dict[str, Any]:
        """As it is written: JSON's values."""
        return {
            "name": self.name,
            "stage": self.stage,
            "summary": self.summary,
            "published": list(self.published),
            "metrics": dict(self.metrics),
            "differences": {name: each._asdict() for name, each in self.differences.items()},
            "verdict": self.cost.verdict,
            "network_seconds_per_image": self.network_seconds_per_image,
            "decode_seconds_per_image": self.decode_seconds_per_image,
            **({"engine": self.engine} if self.engine else {}),
        }

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Self:
        """The row that `plain` was. Raises KeyError, TypeError or AttributeError for others."""
        values = {name: plain[name] for name in cls.__dataclass_fields__ if name in plain or name != "engine"}
        differences = {name: Interval(**each) for name, each in plain["differences"].items()}
        return cls(**values | {"published": tuple(plain["published"]), "differences": differences})


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What was ablated, and where."""

    command: str
    model: str
    checkpoint: str  # the file's name
    baseline: Mapping[str, Any]  # `detect.run_key`
    images: int
    dataset_faults: Mapping[str, Any] | None  # `Examination.record`; None in records made before there was one
    provenance: Mapping[str, Any]

    def plain(self, what: str) -> dict[str, Any]:
        """As it is written: JSON's values."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return {"what": what, **values}


@dataclass(frozen=True, kw_only=True)
class AblationRecord:
    """A baseline, which is the first row, and changes beside it."""

    subject: Subject
    resamples: int  # of the intervals
    seed: int
    processes: int
    rows: tuple[AblationRow, ...]

    @property
    def baseline(self) -> AblationRow:
        """The row that the others are compared with."""
        return self.rows[0]

    @property
    def changed(self) -> tuple[AblationRow, ...]:
        """The other rows."""
        return self.rows[1:]

    def plain(self) -> dict[str, Any]:
        """As it is written: JSON's values."""
        return {
            **self.subject.plain("what details of a port cost: one change at a time beside one baseline"),
            "resamples": self.resamples,
            "seed": self.seed,
            "processes": self.processes,
            "rows": [row.plain() for row in self.rows],
        }

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Self:
        """The record that `plain` was. Raises EffconvError for anything else."""
        try:
            optional = {"dataset_faults": None, **plain}
            return cls(
                subject=Subject(**{name: optional[name] for name in Subject.__dataclass_fields__}),
                resamples=plain["resamples"],
                seed=plain["seed"],
                processes=plain["processes"],
                rows=tuple(AblationRow.read(row) for row in plain["rows"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise EffconvError(f"not a record of ablations: {type(error).__name__} {error}") from error


@dataclass(frozen=True, kw_only=True)
class Gap:
    """The difference of a metric between none and all of some changes, in parts that add up to it."""

    first: float  # with none of them
    last: float  # with all of them
    gap: float
    parts: Mapping[str, float]  # what each adds, averaged over all orders
    alone: Mapping[str, float]  # what each does by itself
    interaction: float  # how much the gap is more than all `alone` together
    evaluations: int


@dataclass(frozen=True, kw_only=True)
class GapRecord:
    """A gap in AP, and what it was measured on."""

    subject: Subject
    gap: Gap

    def plain(self) -> dict[str, Any]:
        """As it is written: JSON's values."""
        return self.subject.plain("the gap in AP between two pipelines, split") | asdict(self.gap)
