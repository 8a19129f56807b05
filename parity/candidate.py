"""Our side of a comparison: every named activation of an EfficientDet, by forward hooks, as it is computed."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ..convert.endpoints import Endpoint
from ..effdet_torch.model import EfficientDet

Visit = Callable[[Endpoint, Tensor], None]


def visit_activations(model: EfficientDet, images: Tensor, endpoints: Iterable[Endpoint], visit: Visit) -> None:
    """Run `model` on `images` (B, 3, H, W) and call `visit(endpoint, activation)` when each endpoint is computed.

    Activations are (B, C, H, W) and not kept, so memory stays that of a plain forward pass. Raises KeyError for an
    endpoint whose module the model lacks.
    """
    modules = dict(model.named_modules())
    wanted: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        wanted.setdefault(endpoint.module, []).append(endpoint)
    levels = list(model.config.levels)
    handles = [modules[path].register_forward_hook(_hook(rows, levels, visit)) for path, rows in wanted.items()]
    try:
        with torch.inference_mode():
            model(images)
    finally:
        for handle in handles:
            handle.remove()


def _hook(rows: list[Endpoint], levels: list[int], visit: Visit) -> Callable[[nn.Module, object, Tensor], None]:
    shared = rows[0].level is not None
    calls = iter(levels)  # a shared module is called once per level, lowest first

    def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
        level = next(calls) if shared else None
        for row in rows:
            if row.level == level:
                visit(row, output)

    return hook
