"""What `effconv parity` compares, and which of its options each of the comparisons uses: no other is taken."""

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any

import click

from ..errors import EffconvError
from .engine_options import GRAPH_ENDING, is_file
from .evaluation_options import EVALUATION_NAMES, SETTINGS
from .refusals import DOWNLOADED, choose_one, given_options, refuse


class Mode(Enum):
    """One of the comparisons; the value says how it is asked for."""

    LAYERS = "a comparison of layers"
    END_TO_END = "--end-to-end"
    COCO = "--coco without --end-to-end"
    ENGINE = "--engine with a name other than eager or with --device, without --coco"
    STAGES = "--port with --end-to-end"
    MODULE = "--port or --module"
    RECORDING = "--candidate-trace"
    GRAPH = "--engine FILE.onnx"
    EXPORTED = "--engine FILE.tflite, FILE.pt2 or FOLDER"


CPU = "cpu"  # the default of `--device`, where layers are compared
COMPUTED = (None, "tf", "torch")  # references that are computed, of a checkpoint; any other is a file
_SUBJECT = frozenset({"model", "ckpt", "generation", "weights", "size", "verify", "as_json"})
_INPUT = frozenset({"candidate", "function", "image", "noise_seed"})
_SHOWN = frozenset({"layerwise", "backward", "explain", "report", "force"})
# By the names the command's function has for them. `engine` chooses the layers too: eager is what they are of.
USED: Mapping[Mode, frozenset[str]] = {
    Mode.LAYERS: _SUBJECT | _INPUT | _SHOWN | {"reference", "engine", "backbone"},
    Mode.END_TO_END: _SUBJECT
    | {"end_to_end", "candidate", "function", "image", "coco", "limit", "report", "force"}
    | set(SETTINGS),
    Mode.COCO: _SUBJECT | {"coco", "force"} | set(EVALUATION_NAMES),
    Mode.ENGINE: _SUBJECT | _INPUT | {"engine", "device"},
    Mode.STAGES: _SUBJECT | {"port", "end_to_end", "image", "report", "force"},
    Mode.MODULE: _SUBJECT
    | {"image", "noise_seed", "layerwise", "explain", "report", "force", "port", "module", "arguments", "names"},
    Mode.GRAPH: _SUBJECT | {"engine", "image", "noise_seed", "layerwise", "explain", "report", "force", "names"},
    Mode.EXPORTED: (_SUBJECT - {"size"}) | {"engine", "image"},
    Mode.RECORDING: (_SUBJECT - {"size"}) | {"candidate_trace", "names", "layerwise", "report", "force"},
}


def choose_mode(values: Mapping[str, Any]) -> Mode:
    """The comparison that the options' values ask for."""
    if values["candidate_trace"]:
        return Mode.RECORDING
    if values["port"] and values["end_to_end"] and not values["module"]:
        return Mode.STAGES
    if values["port"] or values["module"]:
        return Mode.MODULE
    if values["end_to_end"]:
        return Mode.END_TO_END
    if values["coco"]:
        return Mode.COCO
    if _is_graph(values["engine"]):
        return Mode.GRAPH
    if is_file(values["engine"]):
        return Mode.EXPORTED
    elsewhere = values["engine"] is not None and values["device"] != CPU
    return Mode.LAYERS if values["engine"] in (None, "eager") and not elsewhere else Mode.ENGINE


def _is_graph(engine: str | None) -> bool:
    return engine is not None and engine.endswith(GRAPH_ENDING)


def require_used(context: click.Context) -> Mode:
    """The comparison asked for, once every option on the command line is known to have a part in it.

    Raises EffconvError naming the options that have none, and the comparison they belong to.
    """
    mode = choose_mode(context.params)
    given = given_options(context)
    unused = {shown: name for name, shown in given.items() if name not in USED[mode]}
    refuse(unused, mode.value, "\n" + "; ".join(_belongs(shown, name, mode) for shown, name in unused.items()))
    choose_one(DOWNLOADED)
    _require_consistent(mode, given, context.params)
    return mode


def _belongs(shown: str, name: str, mode: Mode) -> str:
    if name == "candidate" and mode is Mode.COCO:
        return "--ckpt takes PyTorch weights too: --ckpt mine.safetensors evaluates them"
    return f"{shown} goes with {' or '.join(other.value for other in Mode if name in USED[other])}"


def _require_consistent(mode: Mode, given: Collection[str], values: Mapping[str, Any]) -> None:
    """Refuse what another option makes useless."""
    if mode is Mode.MODULE:
        _require_module(given)
    if mode in (Mode.STAGES, Mode.MODULE, Mode.RECORDING) and values["model"] is None:
        raise EffconvError(f"{mode.value}: name the model that the network is of (--model d0)")
    if mode is Mode.COCO and is_file(values["engine"]):
        raise EffconvError("--engine: leave --coco out to compare the file; `effconv eval --engine FILE` evaluates it")
    if mode is Mode.END_TO_END and {"image", "coco"} <= set(given):
        raise EffconvError("--image and --coco: choose the pictures of one of them")
    if "backbone" in given:
        if values["model"] is None:
            raise EffconvError("--backbone: name the model whose backbone it is (--model lite0)")
        others = [name for name in ("ckpt", "generation", "weights") if name in given]
        if others:
            raise EffconvError(f"--{others[0]} and --backbone: choose one; the detector around a backbone is random")
    if "generation" not in given:
        return
    if values["model"] is None and values["reference"] in COMPUTED:
        raise EffconvError("--generation: name the model whose released checkpoint it is (--model d0)")


def _require_module(given: Collection[str]) -> None:
    """Refuse a comparison of another network that says twice what is built."""
    if {"port", "module"} <= set(given):
        raise EffconvError("--port and --module: choose one; a port is built by effconv, a module by your own code")
    if "arguments" in given and "module" not in given:
        raise EffconvError("--args: not used by --port; they are arguments of what --module names")
