"""`effconv parity --engine model.onnx` as one job: the inner values of an exported graph beside our network's."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from ...effdet_torch.model import EfficientDet
from ...errors import EffconvError
from ...loading import CHECKPOINT_ENDINGS, load
from ...progress import CHANGES, LAYERS, progress
from ..comparison.explain import Explained
from ..comparison.records import ModuleComparisonRecord
from ..comparison.rows import first_failure
from ..comparison.subject import Choice, Fetch, choose_images, choose_subject
from ..exporting.exported import open_exported, says_detector
from ..exporting.file_parity import FileParity, compare_with_model, file_parity_lines
from .compare_module import Pass, compare_passes, float32_limits
from .explain_module import explain_module
from .graph_module import GraphModule
from .graph_pairing import graph_taps
from .referee import ModuleComparison, Shown, comparison_of, with_outputs
from .reference_run import in_float64, reference_run


def compare_graph_file(
    choice: Choice, path: Path, names: Mapping[str, str], fetch: Fetch, command: str, explain: bool
) -> ModuleComparison:
    """Compare an ONNX file with the network of the checkpoint that `choice` names, at the graph's own size.

    Of a detector that effconv exported, what it finds on pictures (`choice.image`, else drawn ones) is compared too.
    Raises EffconvError for bad input, and where the graph cannot be run.
    """
    reference, checkpoint = _reference(choice, fetch)
    graph = GraphModule(path, reference.config)
    fixed = graph.input.size
    if fixed and choice.size not in (None, fixed):
        raise EffconvError(
            f"{path}: takes images of {fixed[0]}x{fixed[1]} (height x width) alone; leave the size out",
            parameters={"size": None},
        )
    images, label = choose_images(choice._replace(size=fixed or choice.size), reference.config)
    pictures = torch.from_numpy(images).repeat(graph.input.batch or 1, 1, 1, 1)
    pictures = graph.as_taken(pictures)
    found = compare_graph(graph, reference, pictures, names, Shown(path.name, label, command), explain)
    if not says_detector(graph.texts):
        return found
    return _with(found, compare_with_model(open_exported(path), reference, checkpoint.name, choice.image, command))


@dataclass(frozen=True, kw_only=True)
class DetectorComparisonRecord(ModuleComparisonRecord):
    """A graph that detects beside ours: its layers, and what it finds."""

    detections: FileParity


@dataclass(frozen=True, kw_only=True)
class DetectorComparison(ModuleComparison):
    """The comparison of a graph that detects."""

    detections: FileParity

    def pairing_lines(self) -> list[str]:
        """How layers were paired, and what the detector finds."""
        return [*super().pairing_lines(), *file_parity_lines(self.detections)]


def _with(found: ModuleComparison, detections: FileParity) -> DetectorComparison:
    """The comparison of layers with that of detections, of which both must hold."""
    values = {field.name: getattr(found.typed_record, field.name) for field in fields(found.typed_record)}
    says = "it finds the model's objects" if detections.ok else "what it finds is NOT PROVEN to be the model's"
    values |= {"ok": found.ok and detections.ok, "verdict": f"{found.verdict}; {says}"}
    record = DetectorComparisonRecord(**values, detections=detections)
    rest = {field.name: getattr(found, field.name) for field in fields(found) if field.name != "typed_record"}
    return DetectorComparison(**rest, typed_record=record, detections=detections)


def _reference(choice: Choice, fetch: Fetch) -> tuple[EfficientDet, Path]:
    """The model that the file should be, and the file of its weights: of PyTorch weights too, which know their own."""
    if choice.checkpoint and choice.checkpoint.suffix in CHECKPOINT_ENDINGS:
        model = load(choice.checkpoint, model=choice.model, weights=choice.weights, verify=choice.verify)
        return model, choice.checkpoint
    subject = choose_subject(choice, fetch)
    return subject.load(), subject.checkpoint


def compare_graph(
    graph: GraphModule,
    reference: EfficientDet,
    images: Tensor,
    names: Mapping[str, str],
    shown: Shown,
    explain: bool = True,
) -> ModuleComparison:
    """Every node of a graph that gives a layer of ours, beside ours: given our values before it, and from the images.

    Each node is run by itself, in float32, by onnxruntime. A layer may differ by what float32 costs a whole network up
    to it (`float32_limits`), which no part of the graph has a say in; it refuses another function, and a kernel of the
    runtime that is wrong. Raises EffconvError when the graph cannot be run, or no layer is found in it.
    """
    run = reference_run(in_float64(reference), images)
    limits = float32_limits(reference, images)
    taps = graph_taps(graph, reference, run, names, limits)
    if not taps:
        raise EffconvError(
            f"{shown.candidate}: no kernel of it is one of {reference.config.name}'s with these weights; is it of "
            "another checkpoint? Else say which tensor is which layer, {ours: the tensor's name}",
            parameters={"names": None},
        )
    passes = [Pass("float32 local", graph, limits), Pass("float32 accumulated", graph, limits)]
    with progress("comparing", LAYERS) as report:
        rows = with_outputs(compare_passes(passes, run, taps, report), run)
    explained = Explained()
    if explain and first_failure(rows):
        with progress("explaining", CHANGES) as report:
            explained = explain_module(graph, reference, images, rows, taps, report, limits)
    return comparison_of(run, rows, taps, explained, reference.config, shown)
