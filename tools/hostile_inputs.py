"""Inputs that somebody might give by accident or on purpose: sound files of every kind, and how they are damaged."""

import json
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from effconv.convert.conversion import convert, write_weights
from effconv.convert.sources import open_checkpoint
from effconv.effdet_torch.config import get_config
from effconv.loading import load
from effconv.parity.datasets.shapes import write_shapes
from effconv.strict_json import json_text

REPOSITORY = Path(__file__).resolve().parent.parent
TINY = REPOSITORY / "tests" / "golden" / "tiny-swish"
CONFIG = TINY / "config.json"
INDEX, DATA = "model.index", "model.data-00000-of-00001"
ANNOTATIONS = "annotations/instances_val2017.json"
# What takes the place of a value in a JSON file.
VALUES = (
    *("null", "true", "-1", "0", "1e308", "-1e308", "NaN", "Infinity", "1e400", "9" * 400, '""', '"\\ud800"', '"x"'),
    *("[]", "{}", "[[[[[]]]]]", "[" * 2000, '{"a": {"a": {}}}', "0.5", "2147483648", '"../../x"', "[1, 2]"),
)


class Kind(NamedTuple):
    """A kind of input: the file that is damaged within its folder, and what is read of it, as something comparable."""

    name: str
    file: str
    make: Callable[[Path], None]  # writes sound files into a folder
    read: Callable[[Path], object]  # of that folder; raises EffconvError, or gives values
    text: bool = False


def damaged(content: bytes, kind: Kind, generator: random.Random) -> tuple[str, bytes]:
    """(what was done, the file's bytes after it); never the bytes as they were."""
    while True:
        ways = (*_BYTES, *_TEXT) if kind.text else _BYTES
        way = generator.choice(ways)
        changed = way(content, generator)
        if changed != content:
            return way.__name__.strip("_").replace("_", " "), changed


def _some_bits(content: bytes, generator: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(generator.choice((1, 1, 1, 2, 8, 64))):
        changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
    return bytes(changed)


def _cut_short(content: bytes, generator: random.Random) -> bytes:
    return content[: generator.randrange(len(content))]


def _a_piece_lost(content: bytes, generator: random.Random) -> bytes:
    start, end = _piece(content, generator)
    return content[:start] + content[end:]


def _a_piece_twice(content: bytes, generator: random.Random) -> bytes:
    start, end = _piece(content, generator)
    return content[:end] + content[start:]


def _a_piece_overwritten(content: bytes, generator: random.Random) -> bytes:
    start, end = _piece(content, generator)
    filling = generator.choice((b"\x00", b"\xff", b"A", None))
    new = generator.randbytes(end - start) if filling is None else filling * (end - start)
    return content[:start] + new + content[end:]


def _bytes_put_in(content: bytes, generator: random.Random) -> bytes:
    place = generator.randrange(len(content) + 1)
    return content[:place] + generator.randbytes(generator.choice((1, 4, 300))) + content[place:]


def _the_head_alone_changed(content: bytes, generator: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(generator.randrange(1, 5)):
        changed[generator.randrange(min(64, len(changed)))] = generator.randrange(256)
    return bytes(changed)


def _other_bytes(content: bytes, generator: random.Random) -> bytes:
    return generator.randbytes(generator.choice((0, 1, 8, 100, 5000)))


def _another_value(content: bytes, generator: random.Random) -> bytes:
    """One value of a JSON file in exchange for one of VALUES."""
    data = json.loads(content)
    places = list(_places(data))
    holder, key = generator.choice(places)
    holder[key] = "@@"
    return json_text(data).replace('"@@"', generator.choice(VALUES)).encode()


def _a_field_lost_or_renamed(content: bytes, generator: random.Random) -> bytes:
    data = json.loads(content)
    holder, key = generator.choice([(holder, key) for holder, key in _places(data) if isinstance(holder, dict)])
    value = holder.pop(key)
    if generator.random() < 0.5:
        holder[f"{key}s"] = value
    return json_text(data).encode()


def _places(value: object) -> Iterator[tuple[dict | list, object]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def _piece(content: bytes, generator: random.Random) -> tuple[int, int]:
    start = generator.randrange(len(content))
    return start, min(len(content), start + generator.choice((1, 2, 4, 16, 64, 1000)))


_BYTES = (
    *(_some_bits, _some_bits, _cut_short, _a_piece_lost, _a_piece_twice, _a_piece_overwritten, _bytes_put_in),
    *(_the_head_alone_changed, _other_bytes),
)
_TEXT = (_another_value, _another_value, _another_value, _a_field_lost_or_renamed)


def _copy(*names: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name in names:
            (folder / name).write_bytes((TINY / name).read_bytes())

    return make


def _state(folder: Path, name: str) -> list[tuple[str, bytes]]:
    """Every tensor of the model that `effconv.load` makes of a file."""
    network = load(folder / name if name else folder, model=str(CONFIG))
    return [(key, value.numpy().tobytes()) for key, value in network.state_dict().items()]


def _make_safetensors(folder: Path) -> None:
    write_weights(convert(open_checkpoint(TINY), get_config(str(CONFIG))), folder / "x.safetensors")


def _make_pth(folder: Path) -> None:
    torch.save(load(TINY, model=str(CONFIG)).state_dict(), folder / "x.pth")


def _make_archive(folder: Path) -> None:
    with tarfile.open(folder / "x.tar.gz", "w:gz") as archive:
        for name in (INDEX, DATA):
            archive.add(TINY / name, f"tiny/{name}")


def _make_trace(folder: Path) -> None:
    (folder / "x.npz").write_bytes((REPOSITORY / "examples" / "shapes" / "trace.npz").read_bytes())


def _read_trace(folder: Path) -> object:
    from effconv.parity.traces.recording import RecordedTrace

    trace = RecordedTrace(folder / "x.npz")
    return [
        (kind, activation.key, activation.float32.tobytes())
        for kind in trace.kinds
        for activation in trace.activations(kind)
    ]


def _picture(ending: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        values = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
        image = Image.fromarray(values).resize((128, 96))
        image.save(folder / f"x{ending}")

    return make


def _read_picture(ending: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        from effconv.effdet_torch.preprocessing.decode import decode

        return decode((folder / f"x{ending}").read_bytes()).tobytes()

    return read


def _make_annotations(folder: Path) -> None:
    write_shapes(folder, "val2017", 3, 0, (64, 64))


def _read_annotations(folder: Path) -> object:
    from effconv.parity.datasets.layouts import read_dataset

    dataset = read_dataset(folder, "val2017")
    return [image._asdict() for image in dataset.images], [str(each) for each in dataset.annotations]


def _read_config(folder: Path) -> object:
    from effconv.convert.rules import rules

    config = get_config(str(folder / "config.json"))
    return config, len(rules(config))


KINDS = (
    Kind("index of a checkpoint", INDEX, _copy(INDEX, DATA), lambda folder: _state(folder, "")),
    Kind("data of a checkpoint", DATA, _copy(INDEX, DATA), lambda folder: _state(folder, "")),
    Kind(".h5", "tiny-swish.h5", _copy("tiny-swish.h5"), lambda folder: _state(folder, "tiny-swish.h5")),
    Kind(".safetensors", "x.safetensors", _make_safetensors, lambda folder: _state(folder, "x.safetensors")),
    Kind(".pth", "x.pth", _make_pth, lambda folder: _state(folder, "x.pth")),
    Kind("archive", "x.tar.gz", _make_archive, lambda folder: _state(folder, "x.tar.gz")),
    Kind("trace", "x.npz", _make_trace, _read_trace),
    Kind("JPEG", "x.jpg", _picture(".jpg"), _read_picture(".jpg")),
    Kind("PNG", "x.png", _picture(".png"), _read_picture(".png")),
    Kind("annotations", ANNOTATIONS, _make_annotations, _read_annotations, text=True),
    Kind("configuration", "config.json", _copy("config.json"), _read_config, text=True),
)
