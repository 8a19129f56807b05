"""What float32 limits allow and refuse: clean layers beside their bounds, faults of float32 alone, clean runs.

    python tools/record_float32.py ../shared

Layer by layer of every measured model, how much of its bound each side uses; every fault of
tests/helpers/single_precision.py, in our network and, as far as an output shows it, in the reference; the smallest
error of one layer that is found; and clean runs in which nothing may be found. Writes results/measured/float32.json;
exits with status 1 when a fault is missed or misplaced, or a clean run fails. Takes about ten minutes.
"""

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from subjects import GOLDEN, MEASURED, REPOSITORY, subjects

from effconv.convert.layers import layers
from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.model import EfficientDet
from effconv.loading import load
from effconv.parity.comparison.compare import compare, compare_in_turn, precisions
from effconv.parity.comparison.rows import Row, first_failure
from effconv.parity.comparison.soundness import sound_layers
from effconv.parity.copying import copied
from effconv.parity.provenance import provenance
from effconv.parity.rendering.record import write_record
from effconv.parity.traces.images import noise, photograph
from effconv.parity.traces.official import OfficialTrace, official_variables
from effconv.parity.traces.recording import RecordedTrace, record
from effconv.parity.traces.trace import Activation, Kind

sys.path.insert(0, str(REPOSITORY / "tests" / "helpers"))
from single_precision import FLUSHED, LAYERS, PRECISIONS, float32_faults, flushes, in_float32

from faults import IMAGE_SIZES

MODELS = ("tiny-swish", "tiny-lite")
SEED = 0
# Kinds of layers by our layers' names, the first that fits.
KINDS = {
    "squeeze-excite: mean": r"squeeze_excite\.mean$",
    "squeeze-excite: convolutions": r"squeeze_excite\.(reduce|expand)$",
    "squeeze-excite: gate": r"squeeze_excite$",
    "depthwise convolutions": r"\.depthwise(\[\d+\])?$",
    "stem": r"stem\.conv$",
    "1x1 convolutions": r"\.(conv|expand|project|pointwise)(\[\d+\])?$|\.predict(\.pointwise)?(\[\d+\])?$",
    "batch norm and activation": r"stem\.norm|\.(expand_norm|depthwise_norm|norms\.\d+\.\d+)$",
    "batch norm": r"\.(project_norm|norm)$",
    "fusion": r"\.fuse$",
    "activation": r"\.activation$",
}
EXACT = "skip, max-pool, nearest neighbour"
GRID = [10 ** (exponent / 4) for exponent in range(-29, -7)]


def kind_of(key: str) -> str:
    """The kind of layer a key names."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, key)), EXACT)


def clean_shares(shared: Path) -> Iterator[dict[str, Any]]:
    """Per model, size and kind: the largest share of its bound that each side's layers use."""
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects(shared, Path(folder)):
            variables, source = official_variables(subject.checkpoint, subject.config)
            model = load(subject.checkpoint, model=subject.config)
            trace = OfficialTrace(subject.config, variables, noise(SEED, subject.size), source)
            found: dict[str, list[Row]] = {}
            for row in compare_in_turn(trace, precisions(model), "local"):
                found.setdefault(kind_of(row.layer.key), []).append(row)
            for kind, rows in found.items():
                if kind != EXACT:
                    yield {
                        "model": subject.config.name,
                        "size": "{}x{}".format(*subject.size),
                        "kind": kind,
                        "layers": len(rows),
                        "candidate": max(row.soundness["candidate"].times_bound for row in rows),
                        "reference": max(row.soundness["reference"].times_bound for row in rows),
                    }
            print(subject.config.name, subject.size, flush=True)


class WithFault:
    """A recorded trace whose float32 is rounded at one layer."""

    def __init__(self, trace: RecordedTrace, key: str, precision: str):
        self.config, self.images, self.source = trace.config, trace.images, trace.source
        self.kinds, self.exact, self.required = trace.kinds, trace.exact, trace.required
        self._trace, self._key, self._precision = trace, key, precision

    def activations(self, kind: Kind) -> Iterator[Activation]:
        """Every layer, one of them wrong."""
        for activation in self._trace.activations(kind):
            if activation.key == self._key:
                rounded = PRECISIONS[self._precision](torch.from_numpy(activation.float32))
                activation = activation._replace(float32=rounded.numpy())
            yield activation


def first_of(trace: Any, model: EfficientDet) -> Row | None:
    """The first layer that fails locally."""
    return next((row for row in compare_in_turn(trace, precisions(model), "local") if not row.ok), None)


def planted(name: str) -> Iterator[dict[str, Any]]:
    """A row per fault of one model: in our float32, and in the reference's."""
    folder = GOLDEN / name
    config = get_config(str(folder / "config.json"))
    variables, source = official_variables(folder, config)
    clean = load(folder, model=config)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "trace.npz"
        images = noise(SEED, IMAGE_SIZES[config.max_level])
        record(OfficialTrace(config, variables, images, source), path, with_float64=True)
        trace = RecordedTrace(path)
        for fault in float32_faults(config):
            faulty = copied(clean)
            fault.plant(faulty)
            yield {"model": name, "side": "ours", **outcome(fault.name, fault.layer, first_of(trace, faulty))}
        for kind, key in reference_layers(config):
            for precision in PRECISIONS:
                row = first_of(WithFault(trace, key, precision), clean)
                yield {"model": name, "side": "reference", **outcome(f"{precision} output of {kind}", key, row)}


def flushed(name: str) -> Iterator[dict[str, Any]]:
    """A row per convolution of one model that loses the numbers too small to be normal; no reference is needed."""
    config = get_config(str(GOLDEN / name / "config.json"))
    for kind in FLUSHED:
        model = load(GOLDEN / name, model=config)
        fault = flushes(model, kind)
        faulty = copied(model)
        fault.plant(faulty)
        unsound = (
            Row(known, shape, {}, {}, {"candidate": sound})
            for (_, shape, sound), known in zip(
                sound_layers(faulty, precisions(model).double, noise(SEED, IMAGE_SIZES[config.max_level])),
                layers(config),
                strict=True,
            )
            if not sound.ok
        )
        yield {"model": name, "side": "ours", **outcome(fault.name, fault.layer, next(unsound, None))}


def reference_layers(config: Any) -> Iterator[tuple[str, str]]:
    """(kind, key) of the layers whose output is rounded in the reference."""
    known = {layer.key for layer in layers(config)}
    for kind, path in LAYERS.items():
        key = (
            path
            if path in known
            else next((key for key in known if key.startswith((f"{path}[", path.removesuffix(".pointwise") + "["))), "")
        )
        swish = config.squeeze_excite or ".squeeze_excite" not in path
        if key and swish and (config.activation == "swish" or kind != "an activation"):
            yield kind, key


def outcome(name: str, planted_in: str, row: Row | None) -> dict[str, Any]:
    """Whether a fault was found, where, and by how much it is over what is allowed."""
    times = max((each.times_bound for each in row.soundness.values()), default=None) if row else None
    return {
        "fault": name,
        "kind": kind_of(planted_in),
        "planted_in": planted_in,
        "detected": row is not None,
        "named": row and row.layer.key,
        "times_bound": times if times is None or times < 1e30 else 1e30,
        "reason": row and row.reason,
    }


def smallest_found() -> Iterator[dict[str, Any]]:
    """Per kind of layer, the smallest relative error of all its float32 output that soundness alone finds."""
    folder = GOLDEN / "tiny-swish"
    clean = load(folder, model=get_config(str(folder / "config.json")))
    images = noise(SEED, IMAGE_SIZES[7])
    for kind, path in LAYERS.items():

        def is_found(scale: float, path: str = path) -> bool:
            faulty = copied(clean)
            in_float32(faulty.get_submodule(path), lambda right, x, *more: right(x, *more) * (1 + scale))
            return any(not sound.ok for _, _, sound in sound_layers(faulty, precisions(faulty).double, images))

        low, high = 0, len(GRID)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if is_found(GRID[middle]) else (middle + 1, high)
        yield {"kind": kind, "smallest_found": GRID[low] if low < len(GRID) else None}


def clean_runs(shared: Path) -> Iterator[dict[str, Any]]:
    """Forty runs of untouched models that differ in everything but the weights."""
    with tempfile.TemporaryDirectory() as folder:
        every = {each.config.name: each for each in subjects(shared, Path(folder))}
        photographs = sorted((shared / "coco" / "val2017_66" / "val2017").glob("*.jpg"))
        plan = [("tiny-swish", 10), ("tiny-sum8", 8), ("tiny-lite", 10), ("efficientdet-d0", 6)]
        for name, runs in [*plan, ("efficientdet-lite0", 4), ("efficientdet-d1", 2)]:
            config, checkpoint = every[name].config, every[name].checkpoint
            variables, source = official_variables(checkpoint, config)
            height, width = IMAGE_SIZES[config.max_level]
            sizes = [(height, width), (width, height), (height + 1, width + 1), (height, height)]
            for run in range(runs):
                torch.set_num_threads(1 + run % 2)
                torch.backends.mkldnn.enabled = run % 3 != 2
                layout = torch.channels_last if run % 4 > 1 else torch.contiguous_format
                size, scale = sizes[run % len(sizes)], (1.0, 10.0, 0.1)[run % 3]
                images, label = (noise(300 + run, size) * scale).astype("float32"), f"noise, times {scale}"
                if len(photographs) and name.startswith("efficientdet"):
                    # Areas of one colour round otherwise than noise does.
                    images, label = photograph(photographs[run], config, size), photographs[run].name
                model = load(checkpoint, model=config).to(memory_format=layout)
                rows = compare(OfficialTrace(config, variables, images, source), model)
                first = first_failure(rows)
                yield {
                    "model": name,
                    "seed": 300 + run,
                    "size": "{}x{}".format(*size),
                    "image": label,
                    "torch_threads": torch.get_num_threads(),
                    "onednn": torch.backends.mkldnn.enabled,
                    "channels_last": layout is torch.channels_last,
                    "layers": len(rows),
                    "false_alarm": first and f"{first.layer.key}: {first.reason}",
                }
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = True


def main(shared: str) -> None:
    """Write the record; exit with status 1 when it holds a miss, a misplaced fault or a false alarm."""
    faults = [row for name in MODELS for row in (*planted(name), *flushed(name))]
    print(len(faults), "faults", [row for row in faults if row["named"] != row["planted_in"]], flush=True)
    sensitivity = list(smallest_found())
    print(sensitivity, flush=True)
    runs = list(clean_runs(Path(shared)))
    print(len(runs), "clean runs", [run for run in runs if run["false_alarm"]], flush=True)
    result = {
        "what": "float32 layers beside their rounding bounds: clean ones, planted faults of float32 alone, clean runs",
        "command": "python tools/record_float32.py ../shared",
        "provenance": provenance() | {"seed": SEED},
        "clean": list(clean_shares(Path(shared))),
        "faults": faults,
        "sensitivity": sensitivity,
        "clean_runs": runs,
    }
    write_record(result, MEASURED / "float32.json")
    missed = [row for row in faults if row["named"] != row["planted_in"]]
    sys.exit(bool(missed) or any(run["false_alarm"] for run in runs))


if __name__ == "__main__":
    main(*sys.argv[1:])
