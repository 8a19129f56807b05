"""Whether a classifier made of a backbone sees what is on COCO's photographs: its best ImageNet classes.

That layers equal TensorFlow's says that a computation is the same; this says that it is the one the weights were made
for. Preprocessing is EfficientNet-Lite's own, of `tensorflow/tpu: efficientnet/preprocessing.py` and `lite/`.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from ...convert.layout import Array
from ...effdet_torch.model import EfficientDet
from ..datasets.dataset import Dataset
from ..datasets.dataset import Image as Photograph

SIZE, CROP_PADDING = 224, 32  # pixels: the middle 224 / 256 of the shorter side becomes 224 x 224
BEST = 5
EPSILON = 1e-3
BIRDS = (*range(7, 25), *range(80, 101), *range(127, 147))  # cock to great grey owl, grouse to swan, stork to albatross
# {COCO category: ImageNet-1k classes (in their usual order, from 0) that are of its kind}. Categories of which ImageNet
# has no class, person before all, are left out.
CLASSES: Mapping[str, tuple[int, ...]] = {
    "bicycle": (444, 671),
    "car": (407, 436, 468, 511, 609, 627, 656, 661, 751, 817),
    "motorcycle": (665, 670),
    "airplane": (404, 895),
    "bus": (654, 779, 874),
    "train": (466, 547, 705, 820),
    "truck": (555, 569, 675, 717, 864, 867),
    "boat": (472, 484, 510, 554, 576, 625, 628, 724, 780, 814, 871, 914),
    "traffic light": (920,),
    "stop sign": (919,),
    "parking meter": (704,),
    "bench": (703,),
    "bird": BIRDS,
    "cat": tuple(range(281, 286)),
    "dog": tuple(range(151, 269)),
    "horse": (339,),
    "sheep": (348, 349),
    "cow": (345,),
    "elephant": (101, 385, 386),
    "bear": tuple(range(294, 298)),
    "zebra": (340,),
    "backpack": (414,),
    "umbrella": (879,),
    "handbag": (748,),
    "tie": (457, 906),
    "skis": (795,),
    "sports ball": (429, 430, 574, 722, 768, 805, 852, 890),
    "tennis racket": (752,),
    "bottle": (440, 720, 737, 898, 907),
    "wine glass": (572,),
    "cup": (504, 968),
    "spoon": (910,),
    "bowl": (659, 809),
    "banana": (954,),
    "apple": (948,),
    "orange": (950,),
    "broccoli": (937,),
    "hot dog": (934,),
    "pizza": (963,),
    "chair": (423, 559, 765),
    "couch": (831,),
    "potted plant": (738,),
    "bed": (564,),
    "dining table": (532,),
    "toilet": (861,),
    "tv": (664, 782, 851),
    "laptop": (620, 681),
    "mouse": (673,),
    "remote": (761,),
    "keyboard": (508,),
    "cell phone": (487,),
    "microwave": (651,),
    "oven": (827,),
    "toaster": (859,),
    "sink": (896,),
    "refrigerator": (760,),
    "book": (921,),
    "clock": (409, 530, 892),
    "vase": (883,),
    "teddy bear": (850,),
    "hair drier": (589,),
}


def main_categories(dataset: Dataset) -> list[tuple[Photograph, str]]:
    """(photograph, the category whose objects cover most of it), of those whose category has ImageNet classes."""
    areas: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for each in dataset.annotations:
        areas[each["image_id"]][dataset.categories[each["category_id"]]] += each["area"]
    main = {number: max(covered, key=covered.__getitem__) for number, covered in areas.items()}
    return [(image, main[image.id]) for image in dataset.images if main.get(image.id) in CLASSES]


def classifier_input(path: Path) -> Tensor:
    """(1, 3, 224, 224) of a photograph: its middle, resized bicubically, less 127 and divided by 128."""
    with Image.open(path) as picture:
        whole = picture.convert("RGB")
    side = int(SIZE / (SIZE + CROP_PADDING) * min(whole.size))
    left, top = ((length - side + 1) // 2 for length in whole.size)
    middle = whole.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    pixels = (np.asarray(middle, np.float32) - 127) / 128
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0).contiguous()


def best_classes(model: EfficientDet, head: Mapping[str, Array], images: Tensor) -> list[int]:
    """The BEST classes of one image (1, 3, H, W), best first.

    `head` is what a classifier has behind the backbone, under lukemelas' names: `_conv_head`, `_bn1`, `_fc`.
    """
    tensors = {key: torch.from_numpy(np.array(value)) for key, value in head.items()}
    mean, variance, scale, offset = (
        tensors[f"_bn1.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
    )
    with torch.inference_mode():
        features = functional.conv2d(model.backbone(images)[-1], tensors["_conv_head.weight"])
        activated = functional.relu6(functional.batch_norm(features, mean, variance, scale, offset, eps=EPSILON))
        logits = functional.linear(activated.mean((2, 3)), tensors["_fc.weight"], tensors["_fc.bias"])
    return [int(number) for number in logits[0].topk(BEST).indices]
