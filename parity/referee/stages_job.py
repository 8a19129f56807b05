"""`effconv parity --port --end-to-end` as one job: find the weights and the picture, compare, record."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from ...effdet_torch.config import get_config
from ...effdet_torch.preprocessing.decode import read_encoded
from ...loading import load
from ..comparison.end_to_end_job import DRAWN
from ..comparison.subject import Choice, Fetch
from ..plain import INLINED, Plain
from ..provenance import provenance
from ..traces.images import drawn
from .compare_stages import StageComparison, compare_stages
from .port_adapters import port_stages
from .port_stages import Levels


@dataclass(frozen=True, kw_only=True)
class StagesRecord(Plain):
    """What the command prints as JSON."""

    ok: bool
    verdict: str
    found: Annotated[StageComparison, INLINED]
    provenance: Mapping[str, Any]


def compare_port_stages(port: str, choice: Choice, fetch: Fetch, command: str) -> StagesRecord:
    """Compare a port's own stages with the official ones, on the choice's photograph or a drawn picture.

    The outputs of the heads are those of effconv's network of the checkpoint. Raises EffconvError for bad input, for a
    port that cannot be built or fails, and without TensorFlow.
    """
    config = get_config(choice.model or "")
    checkpoint = choice.checkpoint or fetch(config.name)
    network = load(checkpoint, model=choice.model, weights=choice.weights, verify=choice.verify)
    config = dataclasses.replace(network.config, image_size=choice.size or network.config.image_size)
    adapter = port_stages(port, config)
    encoded = drawn(1, DRAWN[1]) if choice.image is None else read_encoded(choice.image)
    picture = "a drawn picture" if choice.image is None else choice.image.name

    def heads(image: Tensor) -> tuple[Levels, Levels]:
        with torch.inference_mode():
            logits, codes = network(image)
        return logits, codes

    found = compare_stages(adapter.stages, config, heads, encoded, picture, adapter.changes)
    return StagesRecord(
        ok=found.ok, verdict=found.verdict, found=found, provenance={"command": command, **provenance()}
    )
