"""Records that are given for weights: read, and refused unless they are of these very weights.

A record knows weights by the sha256 of the file, by the fingerprint of the checkpoint, or by which release they are. A
fingerprint or a release is of two sets, moving averages and raw weights, so the record has to say which.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ...errors import EffconvError
from ..comparison.end_to_end_record import EndToEndRecord
from ..comparison.engine_record import EngineRecord
from ..comparison.records import Candidate, ComparisonRecord
from ..plain import REST, Plain
from .weights import Published

LARGEST = 1 << 28  # bytes of a record
PARITY, EVALUATION = "a record of `effconv parity`", "a record of `effconv eval`"
SETS = {"ema": "moving averages", "raw": "raw weights"}
OF_A_MODEL = ("COCO metrics of a model", "COCO metrics beside a published row")

ParityRecord = ComparisonRecord | EndToEndRecord | EngineRecord


@dataclass(frozen=True, kw_only=True)
class EvaluatedDataset(Plain):
    """What an evaluation was made on."""

    annotations: str
    sha256: str
    images_in_all: int


@dataclass(frozen=True, kw_only=True)
class EvaluationFigures(Plain):
    """What a card states of `ScoreRecord.plain`."""

    what: str
    model: str
    fingerprint: str | None
    conditions: Mapping[str, Any]
    dataset: EvaluatedDataset
    images: int
    metrics: Mapping[str, float]
    skipped: Mapping[str, str]
    network_engine: str
    provenance: Mapping[str, Any]
    more: Annotated[Mapping[str, Any], REST]
    weights_file: Mapping[str, str] | None = None  # records of before it was noted have a release's label at most


def read_parity(path: Path, weights: Published) -> ParityRecord:
    """A record of a comparison with the official computation, of these weights.

    Raises EffconvError for another file, another comparison, and other weights.
    """
    plain = _read(path, PARITY)
    try:
        record = _parity_record(plain)
    except EffconvError as error:
        raise EffconvError(f"{path}: not {PARITY} ({error})") from error
    if record is None:
        raise EffconvError(f"{path}: not {PARITY} of effconv's own network; compare the weights themselves")
    if isinstance(record, EndToEndRecord):
        model, candidate, kind = record.row.model, record.row.candidate, record.row.reference.more.get("weights")
    elif isinstance(record, EngineRecord):
        model, candidate, kind = record.model, record.candidate, None
    else:
        model, candidate, kind = record.model, record.candidate, record.reference.more.get("weights")
        if record.reference.kind == "torch":
            raise EffconvError(f"{path}: compares effconv with itself, which proves nothing; compare with TensorFlow")
    _require_same(path, weights, model, candidate, kind)
    return record


def _parity_record(plain: Mapping[str, Any]) -> ParityRecord | None:
    """By its keys; None for a record of another network."""
    if "pairing" in plain or plain.get("backbone"):
        return None
    if "float64_limit" in plain:
        return EngineRecord.read(plain)
    return EndToEndRecord.read(plain) if "lists" in plain else ComparisonRecord.read(plain)


def read_evaluation(path: Path, weights: Published) -> EvaluationFigures:
    """COCO metrics of these weights. Raises EffconvError for another file, and for other weights."""
    plain = _read(path, EVALUATION)
    if plain.get("what") not in OF_A_MODEL:
        raise EffconvError(f"{path}: expected {EVALUATION} of a model, found {plain.get('what')!r:.60}")
    try:
        record = EvaluationFigures.read(plain)
    except EffconvError as error:
        raise EffconvError(f"{path}: not {EVALUATION} ({error})") from error
    kind = record.conditions.get("weights")
    identity = {key: str(value) for key, value in (record.weights_file or {}).items()}
    candidate = Candidate(
        label="", sha256=identity.get("sha256"), checkpoint_fingerprint=identity.get("checkpoint_fingerprint")
    )
    of_release = record.fingerprint is not None and record.fingerprint == weights.release and kind == weights.kind
    if record.weights_file or not of_release:
        _require_same(path, weights, record.model, candidate, kind)
    return record


def _read(path: Path, what: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EffconvError(f"{path}: not {what} ({error})") from error
    if not isinstance(found, dict):
        raise EffconvError(f"{path}: not {what}, which is a JSON object")
    return found


def _require_same(path: Path, weights: Published, model: str, candidate: Candidate, kind: Any) -> None:
    """Raise EffconvError unless a record is of these weights."""
    if model != weights.config.name:
        raise EffconvError(
            f"{path}: is of {model:.60}, and not of {weights.config.name}; make a record of these weights"
        )
    if candidate.sha256 is not None:
        if candidate.sha256 == weights.sha256:
            return
        found, expected = f"sha256 {candidate.sha256}", weights.sha256
    elif candidate.checkpoint_fingerprint is not None:
        if candidate.checkpoint_fingerprint == weights.fingerprint:
            if weights.kind == "only" or (kind is not None and kind == weights.kind):
                return
            found = SETS.get(kind, "moving averages or raw weights, it does not say which")
            raise EffconvError(
                f"{path}: is of this checkpoint's {found}, and not of its {SETS.get(weights.kind or '', 'other set')}; "
                "make a record of these weights"
            )
        found, expected = f"checkpoint {candidate.checkpoint_fingerprint}", weights.fingerprint or "not known"
    else:
        raise EffconvError(f"{path}: does not say by a digest which weights it is of; make a record of these weights")
    raise EffconvError(
        f"{path}: is of other weights: expected {expected}, found {found:.90}; make a record of these weights"
    )
