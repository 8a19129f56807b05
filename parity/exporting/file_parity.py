"""`effconv parity --engine FILE` as one job: an exported file beside the PyTorch model, picture by picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...effdet_torch.digests import weights_digest
from ...effdet_torch.model import EfficientDet
from ...effdet_torch.postprocessing.detections import Detections
from ...effdet_torch.preprocessing.decode import read_encoded
from ...errors import EffconvError
from ..comparison import exported as exact
from ..comparison.exported import (
    DRAWN,
    ExportCheck,
    compared,
    found_by_model,
    given_images,
    outputs_of_model,
)
from ..comparison.subject import Choice, Fetch
from ..plain import Plain
from ..prediction.image_files import sampled_images
from ..provenance import provenance
from .exported import Exported, open_exported
from .tflite import RoundedCheck, found_again, rounded_line
from .weights_of_file import model_of

EXACT = "float32"


@dataclass(frozen=True, kw_only=True)
class Picture(Plain):
    """What a file finds on one picture, beside the model."""

    name: str
    objects: int  # of the model: all, or of a file of another precision the likely ones
    found: int  # of those, by the file
    added: int  # by the file alone; of another precision not counted
    largest_box_difference: float  # pixels
    largest_score_difference: float


@dataclass(frozen=True, kw_only=True)
class FileParity(Plain):
    """An exported file beside the model of a checkpoint."""

    what: str
    file: str
    sha256: str
    runtime: str
    precision: str
    input: str  # "uint8" or "float32"
    size: tuple[int, int]
    model: str
    checkpoint: str
    same_weights: bool  # by the digest that the file has of those it was made from
    largest_output_difference: float | None  # of a network alone: of class logits and box codes; None: of a detector
    pictures: tuple[Picture, ...]
    exact: ExportCheck | None  # of all pictures, in float32
    rounded: RoundedCheck | None  # likewise, in another precision
    ok: bool
    provenance: dict[str, Any]


def compare_exported(choice: Choice, path: Path, fetch: Fetch, command: str) -> FileParity:
    """Run an exported file on the pictures of `choice`, drawn ones where there are none, beside its model.

    A float32 file must find every object of the model within `exported.PIXELS` and `SCORES`, one of another precision
    more than half of the likely ones, as when it was exported. Where the model finds no object nothing is proven.
    Raises EffconvError for bad input.
    """
    file = open_exported(path)
    model, checkpoint = model_of(choice, file.about, fetch)
    expected, found = file.about.config, model.config
    if (found.num_classes, found.levels) != (expected.num_classes, expected.levels):
        raise EffconvError(
            f"{checkpoint}: of {found.num_classes} classes at levels {found.min_level} to {found.max_level}, where "
            f"{path} has {expected.num_classes} at {expected.min_level} to {expected.max_level}; name the weights that "
            f"the file was made from",
            parameters={"ckpt": "CHECKPOINT"},
        )
    return compare_with_model(file, model, checkpoint.name, choice.image, command)


def compare_with_model(
    file: Exported, model: EfficientDet, checkpoint: str, image: Path | None, command: str
) -> FileParity:
    """The same of a file that is open and its model; `checkpoint` is what the model's weights are called.

    `image` is a picture or a folder of them; None: drawn ones.
    """
    paths = sampled_images(image) if image else []
    names = [each.name for each in paths] or [f"drawn picture {number}" for number in range(len(DRAWN))]
    about = file.about
    images = given_images(about.config, about.detecting, [read_encoded(each) for each in paths])
    one_by_one = [images[row : row + 1] for row in range(len(images))]  # large images in a batch would fill the memory
    ours = joined([found_by_model(model, about.detecting, image, file.clip) for image in one_by_one])
    theirs = joined([file.find(image) for image in one_by_one])
    check = _check(file, ours, theirs)
    same = weights_digest(model) == about.weights_sha256
    return FileParity(
        what="an exported file beside the model",
        file=file.name,
        sha256=file.sha256,
        runtime=file.runtime,
        precision=about.precision,
        input="uint8" if about.detecting.pixels else "float32",
        size=about.detecting.size,
        model=model.config.name,
        checkpoint=checkpoint,
        same_weights=same,
        largest_output_difference=(
            max(_outputs_apart(file, model, image) for image in one_by_one) if file.raw else None
        ),
        pictures=tuple(_picture(file, name, *_of(row, ours, theirs)) for row, name in enumerate(names)),
        exact=check if isinstance(check, ExportCheck) else None,
        rounded=check if isinstance(check, RoundedCheck) else None,
        ok=same and check.ok and check.objects > 0,
        provenance={"command": command, **provenance()},
    )


def file_parity_lines(record: FileParity) -> list[str]:
    """The verdict, then a line per picture."""
    height, width = record.size
    lines = [
        f"{record.file} ({record.precision}, {record.input} images of {height}x{width}, {record.runtime}) beside "
        f"{record.model} of {record.checkpoint}: {'the same detector' if record.ok else 'NOT PROVEN'}"
    ]
    if not record.same_weights:
        lines.append("the weights are others than those that the file says it was made from")
    if record.exact:
        lines.append(exact.check_line(record.exact))
    if record.rounded:
        lines.append(rounded_line(record.rounded, record.precision))
    if record.largest_output_difference is not None:
        lines.append(f"largest difference of class logits and box codes: {record.largest_output_difference:.1e}")
    for each in record.pictures:
        added = f", {each.added} of its own" if each.added else ""
        lines.append(
            f"  {each.name}: {each.found} of {each.objects} objects matched{added}; boxes to "
            f"{each.largest_box_difference:.1e} pixels, scores to {each.largest_score_difference:.1e}"
        )
    return lines


def _check(file: Exported, ours: Detections, theirs: Detections) -> ExportCheck | RoundedCheck:
    if file.about.precision == EXACT:
        return compared(ours, theirs, file.about.detecting, file.runtime)
    return found_again(ours, theirs, file.runtime)


def _picture(file: Exported, name: str, ours: Detections, theirs: Detections) -> Picture:
    check = _check(file, ours, theirs)
    found, added = (check.found, 0) if isinstance(check, RoundedCheck) else (check.objects - check.missing, check.added)
    return Picture(
        name=name,
        objects=check.objects,
        found=found,
        added=added,
        largest_box_difference=check.largest_box_difference,
        largest_score_difference=check.largest_score_difference,
    )


def joined(each: Sequence[Detections]) -> Detections:
    """Detections of several batches as of one; rows are filled up where batches have other numbers of them."""
    most = max(found.scores.shape[1] for found in each)

    def column(name: str) -> Tensor:
        parts = [getattr(found, name) for found in each]
        if name == "valid":
            return torch.cat(parts)
        missing = [part.new_zeros((len(part), most - part.shape[1], *part.shape[2:])) for part in parts]
        return torch.cat([torch.cat(both, 1) for both in zip(parts, missing, strict=True)])

    return Detections(*map(column, Detections._fields))


def _of(row: int, *both: Detections) -> list[Detections]:
    """One picture's rows of several batches."""
    return [Detections(*(column[row : row + 1] for column in each)) for each in both]


def _outputs_apart(file: Exported, model: EfficientDet, images: Any) -> float:
    def flat(kinds: Sequence[Sequence[Any]]) -> list[Any]:
        return [level for kind in kinds for level in kind]

    pairs = zip(flat(outputs_of_model(model, file.about.detecting, images)), flat(file.outputs(images)), strict=True)
    return max(float((one - other).abs().max()) for one, other in pairs)
