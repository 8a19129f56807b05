"""An EfficientDet as a stranger might have written it: other names, another nesting, functions where ours are modules.

`StrangePort(config)` computes what the official network does; its class attributes are where a mistake can be made.
`with_weights_of(model)` fills one by the order in which both list their modules.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effconv.effdet_torch.architecture import (
    backbone_channels,
    blocks,
    cell_nodes,
    extra_levels,
    reductions,
    stem_channels,
)
from effconv.effdet_torch.config import Config
from effconv.effdet_torch.model import EfficientDet


def padded(x: Tensor, kernel: int, stride: int, value: float) -> Tensor:
    """TensorFlow's SAME."""
    sides: list[int] = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        sides += [total // 2, total - total // 2]
    return F.pad(x, sides, value=value)


class Filter(nn.Conv2d):
    """A convolution with its padding in front."""

    def forward(self, x: Tensor) -> Tensor:
        x = padded(x, self.kernel_size[0], self.stride[0], 0.0)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)


class Unit(nn.Module):
    """Convolutions, then a norm."""

    def __init__(self, *filters: nn.Module, channels: int, eps: float):
        super().__init__()
        self.filters, self.scale = nn.Sequential(*filters), nn.BatchNorm2d(channels, eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(self.filters(x))  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """A block of the backbone."""

    def __init__(self, inside: int, kernel: int, stride: int, row: tuple[int, int, int, bool, bool], eps: float):
        super().__init__()
        inputs, outputs, squeezed, widens, self.adds = row
        self.widen = Unit(Filter(inputs, inside, 1, bias=False), channels=inside, eps=eps) if widens else None
        depthwise = Filter(inside, inside, kernel, stride, groups=inside, bias=False)
        self.spatial = Unit(depthwise, channels=inside, eps=eps)
        self.gate = nn.ModuleList([nn.Linear(inside, squeezed), nn.Linear(squeezed, inside)])
        self.narrow = Unit(Filter(inside, outputs, 1, bias=False), channels=outputs, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.widen(x)) if self.widen is not None else x
        y = F.silu(self.spatial(y))
        gate = torch.sigmoid(self.gate[1](F.silu(self.gate[0](y.mean((2, 3))))))
        y = self.narrow(y * gate[:, :, None, None])
        return y + x if self.adds else y


class StrangePort(nn.Module):
    """The network of a config with swish, squeeze-excite and weighted fusion."""

    eps = 1e-3
    pool_padding = -torch.inf
    align_corners: bool | None = None  # of bilinear upsampling; None: nearest

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        eps, width = self.eps, config.fpn_channels
        self.entry = Unit(Filter(3, stem_channels(config), 3, 2, bias=False), channels=stem_channels(config), eps=eps)
        self.trunk = nn.ModuleList(
            Bottleneck(
                row.hidden,
                row.kernel,
                row.stride,
                (row.input_channels, row.output_channels, row.squeezed, row.expands, row.has_skip),
                eps,
            )
            for row in blocks(config)
        )

        def projection(inputs: int) -> nn.Module:
            return Unit(Filter(inputs, width, 1), channels=width, eps=eps) if inputs != width else nn.Identity()

        inputs = backbone_channels(config)[-1]
        self.coarser = nn.ModuleList()
        for _ in extra_levels(config):
            self.coarser.append(projection(inputs))
            inputs = width
        self.pyramid = nn.ModuleList()
        for cell in range(config.fpn_cells):
            for node in cell_nodes(config, cell):
                self.pyramid.append(
                    nn.ModuleDict(
                        {
                            "bring": nn.ModuleList(projection(channels) for channels in node.input_channels),
                            "blend": nn.ParameterList([nn.Parameter(torch.ones(len(node.inputs)))]),
                            "smooth": Unit(*self._separable(width, width), channels=width, eps=eps),
                        }
                    )
                )
        self.answers = nn.ModuleList()
        for outputs in (config.num_anchors * config.num_classes, config.num_anchors * 4):
            repeats = range(config.head_repeats)
            self.answers.append(
                nn.ModuleDict(
                    {
                        "mix": nn.ModuleList(nn.Sequential(*self._separable(width, width)) for _ in repeats),
                        "scales": nn.ModuleList(
                            nn.ModuleList(nn.BatchNorm2d(width, eps) for _ in config.levels) for _ in repeats
                        ),
                        "last": nn.Sequential(*self._separable(width, outputs)),
                    }
                )
            )

    @staticmethod
    def _separable(inputs: int, outputs: int) -> list[nn.Module]:
        return [Filter(inputs, inputs, 3, groups=inputs, bias=False), nn.Conv2d(inputs, outputs, 1)]

    def shrink(self, x: Tensor) -> Tensor:
        """Half the height and width."""
        return F.max_pool2d(padded(x, 3, 2, self.pool_padding), 3, 2)

    def grow(self, x: Tensor, size: torch.Size) -> Tensor:
        """Height and width of a finer level."""
        if self.align_corners is None:
            return F.interpolate(x, size, mode="nearest")
        return F.interpolate(x, size, mode="bilinear", align_corners=self.align_corners)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = F.silu(self.entry(images))
        wanted = [reductions(self.config)[level - 1] for level in self.config.levels if level <= 5]
        features = []
        for place, block in enumerate(self.trunk):
            x = block(x)
            if place in wanted:
                features.append(x)
        for bring in self.coarser:
            features.append(self.shrink(bring(features[-1])))
        nodes = iter(self.pyramid)
        for cell in range(self.config.fpn_cells):
            made = list(features)
            for row in cell_nodes(self.config, cell):
                made.append(
                    self._node(next(nodes), row.inputs, made, made[row.level - self.config.min_level].shape[2:])
                )
            last = {row.level: place for place, row in enumerate(cell_nodes(self.config, cell))}
            features = [made[len(self.config.levels) + last[level]] for level in self.config.levels]
        return [self._answer(head, level, x) for head in self.answers for level, x in enumerate(features)]

    def _node(self, node: nn.Module, inputs: tuple[int, ...], made: list[Tensor], size: torch.Size) -> Tensor:
        total: Tensor | float = 0.0
        weights = F.relu(node["blend"][0])  # type: ignore[index]
        for place, (bring, source) in enumerate(zip(node["bring"], inputs, strict=True)):  # type: ignore[index]
            x = bring(made[source])
            if x.shape[2] > size[0]:
                x = self.shrink(x)
            elif x.shape[2] < size[0]:
                x = self.grow(x, size)
            total = total + x * weights[place] / (weights.sum() + 1e-4)
        return node["smooth"](F.silu(total))  # type: ignore[index, arg-type, no-any-return]

    def _answer(self, head: nn.Module, level: int, x: Tensor) -> Tensor:
        for mix, scales in zip(head["mix"], head["scales"], strict=True):  # type: ignore[index]
            x = F.silu(scales[level](mix(x)))
        return head["last"](x)  # type: ignore[index, no-any-return]


def with_weights_of(model: EfficientDet, kind: type[StrangePort] = StrangePort) -> StrangePort:
    """A stranger's network with the model's weights: both list their modules in the same order."""
    port = kind(model.config)

    def units(network: nn.Module) -> list[nn.Module]:
        kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
        return [module for module in network.modules() if isinstance(module, kinds)]

    for mine, other in zip(units(model), units(port), strict=True):
        state = {
            key: value.reshape(other.state_dict()[key].shape)
            for key, value in mine.state_dict().items()
            if not key.startswith("activation")
        }
        counter = {key: value for key, value in other.state_dict().items() if key == "num_batches_tracked"}
        other.load_state_dict({**state, **counter}, strict=True)
    nodes = [node for cell in model.bifpn.cells for node in cell.nodes]  # type: ignore[union-attr]
    for node, other in zip(nodes, port.pyramid, strict=True):
        weights = torch.stack([weight.detach() for weight in node.fuse.edge_weights])  # type: ignore[union-attr]
        other["blend"][0].data = weights  # type: ignore[index]
    return port.eval()
