"""Which files effconv wrote, told by what is in them: those are replaced unasked, others never.

The rule of every command: a file that stands where an output goes is replaced when it is empty or when effconv wrote it
as the same kind of output, whatever model or settings it was made with, so that a command can be run again. Each kind
carries a sign of its own: weights their metadata, exported detectors a description, a manifest and a record their
keys, pages and pictures a mark, a graph its producer, an exported checkpoint a comment in its `checkpoint` file,
detections the way they are written, a model card a checksum of its own text, since people write in theirs.
"""

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..strict_json import json_text
from .formats.table import masked_crc32c
from .weights_file import FORMER_METADATA, METADATA

HEAD = 4096  # bytes of a file in which a mark is looked for
LARGEST = 1 << 28  # bytes of a JSON file or header that is read to look at its keys
PAGE_MARK = "<!-- written by effconv -->"  # in HTML and Markdown, before anything that depends on the content
PICTURE_MARK = "drawn by effconv"  # a JPEG's comment, a PNG's Software
CHECKPOINT_MARK = "# written by effconv"  # protocol buffers' text form has comments
DESCRIPTION = "effconv.json"  # an entry of exported files that are archives, or end with one
SAVED_MODEL_FILE = "saved_model.pb"  # by which TensorFlow knows a SavedModel's folder
SERVED_DESCRIPTION = Path("assets.extra", DESCRIPTION)  # in a SavedModel's folder
SERVED = re.compile(
    r"(saved_model|fingerprint)\.pb|variables/variables\.(index|data-\d+-of-\d+)|assets\.extra/effconv\.json"
)
SHAPES = "drawn shapes, seed "  # how a dataset of drawn shapes is described in its annotations
CARD_MARK = "<!-- card written by effconv, crc32c {:08x}; once changed by hand it is not replaced -->\n"
CARD_LINE = re.compile(r"^<!-- card written by effconv, crc32c ([0-9a-f]{8}); [^\n]*-->\n", re.MULTILINE)
TRACE_MARK = "effconv trace ".encode("utf-32-le")  # NumPy keeps text in 4 bytes a character
DETECTIONS_LINE = re.compile(
    rb'\[(\]|\{"image_id": -?\d+, "category_id": -?\d+, "bbox": \[[^\]\n]+\], "score": [^\s{}]+\}(,|\]))\n'
)


class Kind(NamedTuple):
    """A kind of output: what it is called, and whether a file is one that effconv wrote."""

    name: str
    recognises: Callable[[Path], bool]


def may_replace(path: Path, kind: Kind) -> bool:
    """Whether nothing of the user's is lost by writing an output of that kind to `path`."""
    try:
        return not path.is_file() or path.stat().st_size == 0 or kind.recognises(path)
    except OSError:
        return False  # it cannot be looked at, so it may be anything


def _head(path: Path, size: int = HEAD) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty for anything else."""
    try:
        found = json.loads(path.read_bytes()) if path.stat().st_size <= LARGEST else None
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def _is_weights(path: Path) -> bool:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= LARGEST else b""
    try:
        metadata = json.loads(header)["__metadata__"]
        return METADATA in metadata or FORMER_METADATA in metadata
    except (ValueError, RecursionError, LookupError, TypeError):
        return False


def _is_record(path: Path) -> bool:
    made = _json(path).get("provenance")
    return isinstance(made, dict) and "effconv" in made


def _is_report(path: Path) -> bool:
    return _is_record(path) if path.suffix == ".json" else PAGE_MARK.encode() in _head(path)


def _is_shapes(path: Path) -> bool:
    info = _json(path).get("info")
    return isinstance(info, dict) and str(info.get("description")).startswith(SHAPES)


def _is_image_list(path: Path) -> bool:
    images = _json(path).get("images")
    return isinstance(images, list) and all(isinstance(each, dict) and "drawing" in each for each in images)


def _is_trace(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive, archive.open("header.npy") as header:
            return TRACE_MARK in header.read(HEAD)
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, EOFError):
        return False


def _is_described(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(f"/{name}".endswith(f"/{DESCRIPTION}") for name in archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return False


def _is_served(path: Path) -> bool:
    """Of a SavedModel's `saved_model.pb`: its folder, which is replaced as a whole, has nothing else in it."""
    folder = path.parent
    if path.name != SAVED_MODEL_FILE or not {"effconv", "weights_sha256"} <= set(_json(folder / SERVED_DESCRIPTION)):
        return False
    files = (each for each in folder.rglob("*") if not each.is_dir())
    return all(SERVED.fullmatch(each.relative_to(folder).as_posix()) for each in files)


def _is_checkpoint(path: Path) -> bool:
    """Of one of a checkpoint's files, or its folder's `checkpoint` file."""
    state = path.with_name("checkpoint")
    if not state.is_file() or not _head(state).startswith(CHECKPOINT_MARK.encode()):
        return False
    prefix = re.sub(r"\.(index|data-\d+-of-\d+)$", "", path.name)
    return path == state or f"model_checkpoint_path: {json_text(prefix)}\n".encode() in _head(state)


def _is_in_manifest(path: Path) -> bool:
    """Told by the manifest beside it: the file of another port, or of Keras, has no place for a mark."""
    from .conversion import manifest_path

    manifest = manifest_path(path)
    return manifest.is_file() and _json(manifest).get("file") == path.name and MANIFEST.recognises(manifest)


def marked_card(front: str, text: str) -> str:
    """A model card: what has to be first, the mark, and the text. The mark has a checksum of both."""
    return front + CARD_MARK.format(masked_crc32c((front + text).encode())) + text


def _is_card(path: Path) -> bool:
    """Of a card as it was written: whoever publishes one may well have written in it."""
    try:
        text = path.read_bytes().decode() if path.stat().st_size <= LARGEST else ""
    except UnicodeDecodeError:
        return False
    mark = CARD_LINE.search(text)
    return mark is not None and int(mark[1], 16) == masked_crc32c((text[: mark.start()] + text[mark.end() :]).encode())


WEIGHTS = Kind("weights (.safetensors)", _is_weights)
PORT_WEIGHTS = Kind("weights for another port", _is_in_manifest)
KERAS_WEIGHTS = Kind("Keras weights (.h5)", _is_in_manifest)
MANIFEST = Kind("a manifest of weights", lambda path: {"effconv", "model", "source", "config"} <= set(_json(path)))
RECORD = Kind("a record", _is_record)
REPORT = Kind("a report", _is_report)
DETECTIONS = Kind("detections", lambda path: DETECTIONS_LINE.match(_head(path)) is not None)
TRACE = Kind("a trace", _is_trace)
GRAPH = Kind("an ONNX graph", lambda path: b"\x12\x07effconv" in _head(path, 32))
TFLITE = Kind("a TFLite detector", _is_described)
PROGRAM = Kind("a program of torch.export", _is_described)
SAVED_MODEL = Kind("an unchanged SavedModel", _is_served)
CHECKPOINT = Kind("an exported checkpoint", _is_checkpoint)
PICTURE = Kind("a picture", lambda path: PICTURE_MARK.encode() in _head(path))
ANNOTATIONS = Kind("annotations of drawn shapes", _is_shapes)
CARD = Kind("an unchanged model card", _is_card)
HUB_CONFIG = Kind(
    "a folder's configuration", lambda path: {"effconv", "model", "categories", "input"} <= set(_json(path))
)
IMAGE_LIST = Kind("a list of images", _is_image_list)
# Made to be changed by hand: what is in it may be the user's work, whoever wrote it first.
CONFIG = Kind("a configuration", lambda path: False)
