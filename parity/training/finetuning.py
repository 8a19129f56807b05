"""Fine-tuning: what is done otherwise than in the official recipe, which is made for 300 epochs of COCO, and why.

- The learning rate begins at RATE for a batch of 64, twice the official one: few steps have far to go.
- Images are resized by JITTER at random, officially by 0.1 to 2, which few steps do not cover.
- The rate falls to zero by the last step ("polynomial"). The official cosine counts its period without the warm-up, so
  that a short run ends on a rate that rises again.
- The moving averages span SPAN of the run. The official decay of 0.9998 spans 5,000 steps, more than a short run has.
- Batch norms stay as they are: they have seen more in the first training than small batches of few pictures show.

`tools/record_finetune.py` measures what each is worth; docs/train.md shows it. There the first two matter.
"""

from typing import Any

from ...effdet_torch.training.augment import Augmentation
from ...effdet_torch.training.schedule import Kind
from ...effdet_torch.training.trainer import TrainingSettings
from .job import Job

EPOCHS = 20
BATCH = 8
RATE = 0.16  # for a batch of 64
WARMUP_EPOCHS = 1.0
SCHEDULE: Kind = "polynomial"
SPAN = 0.1  # of all steps
JITTER = 0.5, 1.5
DECAYS = 0.9, TrainingSettings.average_decay  # a dozen steps are averaged at least, and as officially at most


def finetuning(*, frozen_norms: bool = True, seed: int = 0, **chosen: Any) -> Job:
    """A training of this recipe; `chosen` are fields of `Job`, which go before the recipe's."""
    recipe: dict[str, Any] = {
        "epochs": EPOCHS,
        "batch": BATCH,
        "rate": RATE,
        "warmup_epochs": WARMUP_EPOCHS,
        "schedule": SCHEDULE,
        "average_span": SPAN,
        "augmentation": Augmentation(jitter_min=JITTER[0], jitter_max=JITTER[1]),
        "settings": TrainingSettings(frozen_norms=frozen_norms, seed=seed),
    }
    return Job(**{**recipe, **chosen})


def average_decay(steps: int, span: float) -> float:
    """The decay of moving averages that span this share of so many steps: of `1 / (1 - decay)` steps."""
    least, most = DECAYS
    return min(max(1 - 1 / max(1.0, span * steps), least), most)
