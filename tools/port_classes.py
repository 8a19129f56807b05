"""Other projects' own networks, built from their sources, which are not part of effconv.

FOLDER holds `packages` (`pip install --no-deps --target packages effdet==0.4.1 timm torchvision omegaconf
antlr4-python3-runtime==4.9.3 pyyaml pycocotools tqdm loguru opencv-python-headless huggingface_hub webcolors`) and
checkouts of zylo117/Yet-Another-EfficientDet-Pytorch and bonlime/pytorch-tools as `zylo117` and `pytorch-tools`.
"""

import sys
import types
from pathlib import Path

import torch
from torch import nn

from effconv.effdet_torch.config import Config


def size_of(config: Config) -> int:
    """Of the images: so that the highest level of two of them has eight values, whose variance means something."""
    return 2 ** (config.max_level + 1)


def find_sources(folder: Path) -> None:
    """Make the projects importable. They need torchvision's Python files alone, not its compiled operators."""
    sys.path[:0] = [str(folder / name) for name in ("packages", "zylo117", "pytorch-tools")]
    sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
    torch.jit.script = lambda function, *arguments, **options: function  # type: ignore[assignment]


def stand_in_for_nms() -> bool:
    """Give torchvision its operator `nms` in plain Python where its own is missing; whether that was so."""
    import torchvision.extension

    if hasattr(torch.ops.torchvision, "nms"):
        return False
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms, "CPU")
    _LIBRARIES.append(library)  # which takes the operator with it when it goes
    for module in (torchvision.extension, torchvision.ops.boxes):
        module._assert_has_ops = lambda: None
    return True


_LIBRARIES: list[torch.library.Library] = []


def _nms(dets: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """As torchvision documents it: boxes (N, 4) that overlap a better one by more than `iou_threshold` go."""
    order = scores.sort(descending=True, stable=True).indices
    boxes = dets[order]
    low, high = boxes[:, :2], boxes[:, 2:]
    areas = (high - low).prod(-1)
    left, kept = torch.ones(len(boxes), dtype=torch.bool), []
    for place in range(len(boxes)):
        if left[place]:
            kept.append(place)
            shared = (torch.minimum(high[place], high) - torch.maximum(low[place], low)).clamp(min=0).prod(-1)
            left &= ~(shared / (areas[place] + areas - shared) > iou_threshold)
    return order[torch.tensor(kept, dtype=torch.long)]


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """{key: shape} of what a file of the network holds, without the counters that PyTorch adds."""
    tensors = network.state_dict()
    return {key: tuple(value.shape) for key, value in tensors.items() if not key.endswith("num_batches_tracked")}


def pad_pools_as_tensorflow_does() -> None:
    """zylo117's max-pool pads with zeros: known, said on import. Here it pads with minus infinity."""
    from efficientnet.utils_extra import MaxPool2dStaticSamePadding

    from effconv.effdet_torch.ops import same_max_pool

    def forward(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return same_max_pool(x, tuple(module.kernel_size), tuple(module.stride))

    MaxPool2dStaticSamePadding.forward = forward
