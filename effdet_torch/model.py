"""EfficientDet: images to class logits and box codes, as the official code computes them.

Paper: EfficientDet: Scalable and Efficient Object Detection (Tan, Pang and Le, 2020).
Source: google/automl `tf2/efficientdet_keras.py: EfficientDetNet`.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import Tensor, nn

from .backbone import EfficientNet
from .bifpn import BiFPN
from .config import Config, get_config
from .heads import Head
from .initialisation import initialise

if TYPE_CHECKING:
    from .postprocessing.postprocess import Postprocessor
    from .predict import Source
    from .prediction import Prediction
    from .preprocessing.preprocess import Preprocessor


class EfficientDet(nn.Module):
    """The network of one Config.

    `images` are (B, 3, H, W), normalised as the config says; any height and width the official code accepts. The result
    is two lists, lowest level first: class logits (B, A*C, h, w) and box codes (B, A*4, h, w), with A anchors per
    position and C classes. Channel a*C + c is class c of anchor a; class c is COCO category id c + 1.
    """

    def __init__(self, config: Config | str):
        super().__init__()
        self.config = get_config(config)
        self.backbone = EfficientNet(self.config)
        self.bifpn = BiFPN(self.config)
        self.class_head = Head(self.config, self.config.num_anchors * self.config.num_classes)
        self.box_head = Head(self.config, self.config.num_anchors * 4)
        bias = self.class_head.predict.pointwise.bias
        assert bias is not None
        initialise(self.backbone, self.bifpn, [self.class_head, self.box_head], bias)

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (B, 3, H, W), found {tuple(images.shape)}")
        features = self.bifpn(self.backbone(images))
        return self.class_head(features), self.box_head(features)

    def predict(
        self,
        sources: "Iterable[Source]",
        *,
        preprocess: "Preprocessor | None" = None,
        postprocess: "Postprocessor | None" = None,
        batch: int = 1,
        min_score: float = 0.0,
    ) -> "list[Prediction]":
        """Objects in images (paths, bytes, arrays, Pillow's, ...): one Prediction each, boxes [xmin, ymin, xmax, ymax]
        in original pixels, scores, COCO category ids. See `predict.predict`, also for what is raised.
        """
        from .predict import predict  # images and suppression need more than the network does

        return predict(self, sources, preprocess=preprocess, postprocess=postprocess, batch=batch, min_score=min_score)
