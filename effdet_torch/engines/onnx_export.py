"""The fast form of an EfficientDet as an ONNX graph: one input size, any batch, SAME padding static."""

import dataclasses
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import EffconvError
from ...strict_json import json_text
from ...version import __version__
from ..categories import category_name
from ..config import config_to_dict
from ..digests import weights_digest
from ..model import EfficientDet
from ..postprocessing.anchors import feature_sizes
from .fast import fast

OPSET = 18
INPUT = "images"
NOTHING_MORE: Mapping[str, str] = {}


def output_names(model: EfficientDet) -> list[str]:
    """class_logits_3, ..., box_codes_3, ...: lowest level first, as the model returns them."""
    return [f"{kind}_{level}" for kind in ("class_logits", "box_codes") for level in model.config.levels]


def export_onnx(model: EfficientDet, path: Path, size: tuple[int, int]) -> None:
    """Write `model` for inputs (B, 3, *size), normalised as its config says, to `path`.

    Outputs are those of the model, (B, A*C, h, w) and (B, A*4, h, w), named by `output_names`; the graph is named after
    the model, and made by effconv. Raises EffconvError without the onnx packages, and for a model in training mode.
    """
    portable = fast(model).to("cpu", torch.float32)
    graph = exported(portable, torch.zeros(2, 3, *size), output_names(model))
    channels = model.config.num_anchors * model.config.num_classes, model.config.num_anchors * 4
    expected = [(count, *cells) for count in channels for cells in feature_sizes_of(model, size)]
    found = [tuple(axis.dim_value for axis in each.type.tensor_type.shape.dim[1:]) for each in graph.graph.output]
    assert found == expected, f"exported outputs {found}, expected {expected}"
    write_graph(graph, model, path)


def exported(network: nn.Module, images: Tensor, outputs: list[str]) -> Any:
    """The graph of a network, for any number of images like `images`, as `onnx.ModelProto`.

    Raises EffconvError without the onnx packages.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401  # what torch.onnx needs, and says less plainly
    except ImportError as error:
        raise EffconvError(f"an ONNX graph needs {error.name}: pip install onnx onnxscript") from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of torchvision, which is not needed
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own, about its own parts
        program = torch.onnx.export(
            network,
            (images,),
            input_names=[INPUT],
            output_names=outputs,
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def write_graph(graph: Any, model: EfficientDet, path: Path, more: Mapping[str, str] = NOTHING_MORE) -> None:
    """Write a checked graph, named after the model and made by effconv, with what describes the model, and `more`."""
    import onnx

    onnx.helper.set_model_props(graph, {**description(model), **more})
    graph.producer_name, graph.producer_version, graph.graph.name = "effconv", __version__, model.config.name
    onnx.checker.check_model(graph)
    path.write_bytes(graph.SerializeToString())


def description(model: EfficientDet) -> dict[str, str]:
    """What a reader of the graph has to know: names of categories, normalisation, anchors, and whose weights it has."""
    config = model.config
    names = {str(number): category_name(number, config) for number in range(1, config.num_classes + 1)}
    return {
        "names": json_text({number: name for number, name in names.items() if not name.startswith("category ")}),
        "config": json_text(config_to_dict(config)),
        "weights_sha256": weights_digest(model),
    }


def feature_sizes_of(model: EfficientDet, size: tuple[int, int]) -> list[tuple[int, int]]:
    """(height, width) of every level's maps for an input of `size`."""
    return feature_sizes(dataclasses.replace(model.config, image_size=size))
