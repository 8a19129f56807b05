"""A model card in Markdown: every figure on it is the file's own, or stands in a record that was given."""

from collections.abc import Sequence
from pathlib import Path

from ...convert.output_kinds import marked_card
from ...effdet_torch.categories import COCO_CLASSES, category_name
from ...effdet_torch.config import Config
from ...version import __version__
from .card_records import evaluation_text, parity_text, unverified
from .evidence import EvaluationFigures, ParityRecord, read_evaluation, read_parity
from .markdown_text import as_text
from .weights import Published

NAMED = 100  # categories by name; a model may have 100,000
KINDS = {"ema": "the moving averages", "raw": "the raw weights", "only": "the only set of weights"}
CITATION = """```bibtex
@inproceedings{tan2020efficientdet,
  title = {EfficientDet: Scalable and Efficient Object Detection},
  author = {Tan, Mingxing and Pang, Ruoming and Le, Quoc V.},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2020}
}
```"""


def card(weights: Published, place: str, parity: Sequence[Path] = (), evaluations: Sequence[Path] = ()) -> str:
    """The card's text. `place` is what `effconv.load` is given, from where the card lies.

    `parity` and `evaluations` are records of these weights. Raises EffconvError for a record of others.
    """
    compared = [read_parity(path, weights) for path in parity]
    evaluated = [read_evaluation(path, weights) for path in evaluations]
    return marked_card(_front(weights.config), _body(weights, place, compared, evaluated))


def has_coco_classes(config: Config) -> bool:
    """Whether a model's categories are COCO's."""
    return config.num_classes == COCO_CLASSES and not config.class_names


def _front(config: Config) -> str:
    """What hubs read: nothing of it is a user's text, so that nothing has to be quoted."""
    lines = ["license: apache-2.0", "library_name: effconv", "pipeline_tag: object-detection"]
    lines += ["tags:", "- object-detection", "- efficientdet"]
    lines += ["datasets:", "- coco"] if has_coco_classes(config) else []
    return "\n".join(["---", *lines, "---", ""])


def _body(
    weights: Published, place: str, compared: Sequence[ParityRecord], evaluated: Sequence[EvaluationFigures]
) -> str:
    config = weights.config
    parts = [
        f"# {as_text(config.label)}",
        f"EfficientDet in PyTorch, by effconv: an object detector. This page was written by effconv {__version__}.",
        _facts(weights),
        f"## Where the weights come from\n\n{_origin(weights)}",
        f"## Use\n\n{_use(place)}",
        f"## Compared with the official computation\n\n{_each([parity_text(each) for each in compared])}",
        f"## COCO metrics\n\n{_each([evaluation_text(each) for each in evaluated])}",
        "## What is not verified\n\n" + "\n".join(f"- {line}" for line in unverified(weights, compared, evaluated)),
        f"## Licence and citation\n\n{_licence(weights)}\n\n{CITATION}",
    ]
    return "\n" + "\n\n".join(parts) + "\n"


def _each(texts: Sequence[str]) -> str:
    return "\n\n".join(texts) if texts else "No record was given, so nothing is claimed."


def _facts(weights: Published) -> str:
    config = weights.config
    height, width = config.image_size
    rows = [
        f"- model: {as_text(config.name)}, backbone {as_text(config.backbone)}",
        f"- input: {height} x {width} pixels (height x width), RGB",
        f"- parameters: {weights.parameters:,}",
        f"- classes: {_classes(config)}",
        f"- sha256 of the weights file: `{weights.sha256}`",
    ]
    if config.zero_padded_pool:
        rows.append(
            "- max-pooling is padded with zeros, as some ports do it; the official model pads with minus infinity"
        )
    return "\n".join(rows)


def _classes(config: Config) -> str:
    if has_coco_classes(config):
        return "COCO's 80, of ids 1 to 90 with gaps"
    if not config.class_names:
        return f"{config.num_classes}, without names"
    names = [as_text(category_name(number, config)) for number in range(1, config.num_classes + 1)]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{config.num_classes}: {', '.join(names[:NAMED])}{more}"


def _origin(weights: Published) -> str:
    lines = []
    if weights.kind in KINDS:
        lines.append(f"They are {KINDS[weights.kind]} of what they were made from, as the file says.")
    if weights.release:
        lines.append(f"Every value is that of the released checkpoint {as_text(weights.release)}, by its checksum.")
    if manifest := weights.manifest:
        source = manifest["source"]
        lines.append(f"The manifest of this file says: written by effconv {as_text(manifest['effconv'])}, from")
        named = [(name, source.get(key)) for name, key in _SOURCE.items()]
        return "\n\n".join(
            [" ".join(lines), "\n".join(f"- {name}: {as_text(value)}" for name, value in named if value)]
        )
    lines.append(f"What they were made from is not known: {weights.no_manifest}.")
    return " ".join(lines)


_SOURCE = {
    "file": "file",
    "kind of file": "container",
    "fingerprint of all its tensors": "fingerprint",
    "sha256": "sha256",
    "released checkpoint": "released_checkpoint",
}


def _use(place: str) -> str:
    return f"""```python
import effconv

model = effconv.load({place!r})
for found in model.predict(["photo.jpg"], min_score=0.3)[0]:
    print(found.name, found.score, found.box)  # box: xmin, ymin, xmax, ymax in pixels of the photo
```

Run it where this page and the weights lie."""


def _licence(weights: Published) -> str:
    text = (
        "EfficientDet's official code and released weights are Google's, under the Apache License 2.0; so is effconv."
    )
    if weights.release:
        return text
    return f"{text} These weights are not known to be a release: who trained them says under which licence they are."
