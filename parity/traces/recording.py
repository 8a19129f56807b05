"""Traces on disk: an uncompressed `.npz` that is written and read one layer at a time.

Members: `header` (JSON: model, source, kinds, keys, noise), `images`, and per layer `float32/KEY` and, where the trace
has float64, `accumulated/KEY` and `local/KEY`: float64 minus float32, stored as float32. Value and remainder together
keep 48 bits, four digits more than the float64 limit needs, in half the space. Which layers must be there is not the
header's to say: it can only add to what its kind of reference has; and its noise is for information.
"""

import contextlib
import json
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...convert.layers import layers
from ...convert.output import replacing
from ...effdet_torch.config import Config, config_from_dict, config_to_dict
from ...errors import EffconvError
from ...strict_json import json_text
from ..difference import largest, relative_error
from .golden import endpoints
from .graph import landmarks
from .stored_array import read_array, write_array
from .trace import KINDS, Activation, Kind, Trace

FORMAT = "effconv trace 1"
LONGEST_REASON = 200  # characters of a message that is not ours


class TraceError(EffconvError):
    """A recorded trace that is damaged, hostile, or of another kind."""


def record(
    trace: Trace, path: Path, *, with_float64: bool = False, report: Callable[[int, int], None] | None = None
) -> int:
    """Write `trace` to `path`, whole or not at all; returns the number of layers.

    With its float64 the file is three times as large, and float64 comparisons are possible; without, it carries the
    noise of each layer as a number. Raises OutputError when it cannot be written.
    """
    total = len(trace.kinds) * len(layers(trace.config))
    noise: dict[str, dict[str, float]] = {}
    checksums: dict[str, int] = {}
    samples: dict[str, tuple[list[int], int]] = {}
    has_float64 = False
    done = 0
    with replacing(path) as (file,), zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        write_array(archive, "images", trace.images)
        for kind in trace.kinds:
            for activation in trace.activations(kind):
                key, single, double = activation.key, activation.float32, activation.float64
                checksum = zlib.crc32(np.ascontiguousarray(single).data)
                if key not in checksums:
                    checksums[key] = checksum
                    write_array(archive, f"float32/{key}", single)
                    if activation.step > 1:
                        samples[key] = list(activation.shape), activation.step
                elif checksums[key] != checksum:
                    raise TraceError(f"{key}: two runs of the reference differ; it cannot be recorded")
                if double is not None:
                    has_float64 = with_float64
                    measured: float | None = relative_error(single, double, largest(double))
                    if with_float64:
                        write_array(archive, f"{kind}/{key}", (double - single).astype(np.float32))
                else:
                    measured = activation.noise
                if measured is not None and math.isfinite(measured):  # of NaN there is none to measure
                    noise.setdefault(key, {})[kind] = measured
                done += 1
                if report:
                    report(min(done, total), total)
        header = {
            "format": FORMAT,
            "config": config_to_dict(trace.config),
            "source": trace.source,
            "kinds": list(trace.kinds),
            "exact": trace.exact,
            "float64": has_float64,
            "keys": list(checksums),
            "required": sorted(trace.required),
            "samples": samples,
            "noise": noise,
        }
        write_array(archive, "header", np.array(json_text(header)))
    return len(checksums)


class RecordedTrace:
    """A trace read from disk, layer by layer. Raises TraceError, naming the file and the member at fault."""

    def __init__(self, path: Path):
        self.path = path
        self._size = path.stat().st_size if path.is_file() else 0
        with self._archive() as archive:
            header = self._header(archive)
            self.config: Config = config_from_dict(header["config"], source=f"{path}: header")
            self.images: NDArray[np.float32] = self._array(archive, "images")
        self.source: dict[str, Any] = header["source"]
        self.kinds: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind in header["kinds"])
        self.exact = header["exact"] is True
        self.required = _required(self.config, self.source.get("kind")) | frozenset(header["required"])
        self._samples: dict[str, tuple[list[int], int]] = header["samples"]
        self._keys, self._noise, self._wide = header["keys"], header["noise"], header["float64"] is True
        sampled = [key for key, (_, step) in self._samples.items() if step > 1]
        if sampled and self.source.get("kind") != "golden":
            raise TraceError(f"{path}: a sample of {sampled[0]}, where all of it was expected; {self._hint()}")
        if self.images.ndim != 4 or self.images.shape[1] != 3 or not self.images.size or not self.kinds:
            raise TraceError(f"{path}: expected images (B, 3, H, W) and a kind of comparison; {self._hint()}")

    def activations(self, kind: Kind) -> Iterator[Activation]:
        """Every recorded layer, in order."""
        with self._archive() as archive:
            for key in self._keys:
                single = self._array(archive, f"float32/{key}")
                if self._wide:
                    remainder = self._array(archive, f"{kind}/{key}")
                    if remainder.shape != single.shape:
                        raise TraceError(f"{self.path}: {kind}/{key} and float32/{key} differ in shape; {self._hint()}")
                    yield Activation(key, single, single.astype(np.float64) + remainder)
                    del remainder
                else:
                    noise = self._noise.get(key, {}).get(kind)
                    shape, step = self._samples.get(key, (single.shape, 1))
                    yield Activation(key, single, noise=noise, shape=tuple(shape), step=step)
                del single

    def _hint(self) -> str:
        return "record it again with `effconv trace`"

    @contextlib.contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
            raise TraceError(f"{self.path}: not a readable trace ({_briefly(error)}); {self._hint()}") from error

    def _array(self, archive: zipfile.ZipFile, name: str) -> NDArray[np.float32]:
        array = self._member(archive, name)
        if array.dtype != np.float32:
            raise TraceError(f"{self.path}: {name} is {array.dtype}, expected float32; {self._hint()}")
        return array

    def _member(self, archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
        try:
            return read_array(archive, name, self._size)
        except (KeyError, ValueError, RuntimeError) as error:
            raise TraceError(f"{self.path}: {name} cannot be read ({error}); {self._hint()}") from error

    def _header(self, archive: zipfile.ZipFile) -> dict[str, Any]:
        text = str(self._member(archive, "header"))
        try:
            header: dict[str, Any] = json.loads(text)
            if header["format"] != FORMAT or not isinstance(header["source"]["label"], str):
                raise ValueError(f"format {header['format']!r}, expected {FORMAT!r}")
            require = [
                isinstance(header["config"], dict),
                *(isinstance(header[name], bool) for name in ("exact", "float64")),
            ]
            require += [isinstance(key, str) for name in ("kinds", "keys", "required") for key in header[name]]
            require += [0 <= value < math.inf for noise in header["noise"].values() for value in noise.values()]
            for shape, step in header["samples"].values():
                require += [isinstance(number, int) and number > 0 for number in (*shape, step)]
            if not all(require):
                raise ValueError("a field of the header has another type than expected")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise TraceError(f"{self.path}: not a trace of effconv's ({error}); {self._hint()}") from error
        return header


def _required(config: Config, kind: Any) -> frozenset[str]:
    """What a recording of this kind of reference must hold, whatever its header lists."""
    if kind == "golden":
        return endpoints(config)
    return landmarks(config) if kind in ("graph", "saved model") else frozenset(layer.key for layer in layers(config))


def is_recording(path: Path) -> bool:
    """Whether a file is a trace that `record` wrote, as opposed to some other `.npz`. Raises TraceError if neither."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "header.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: not a readable trace ({error}); record one with `effconv trace`") from error


def _briefly(error: Exception) -> str:
    """The start of a library's message, which may quote a whole array."""
    text = str(error)
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]} ..."
