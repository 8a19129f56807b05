"""The official training step in TensorFlow's operations: what a PyTorch training loop is compared with, step by step.

Like `network.py` it shares no code with `effdet_torch` but the hyper-parameters in `Config`. It is the step of one
replica, as the TF1 code that made the released checkpoints takes it, in float32 or float64; batch norms are written
out, for TensorFlow's fused one has no float64. Stochastic depth is left out: a B0 backbone trains without.

Source: google/automl `det_model_fn.py: _model_fn, detection_loss, reg_l2_loss`, `utils.py: get_ema_vars`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...effdet_torch.config import Config
from ...errors import EffconvError
from .network import EPSILON, OfficialNetwork, Tensor

STATISTICS = ("moving_mean", "moving_variance")  # what a batch norm collects; not trained
NORM_RATE = 1.0 - 0.99  # how far a batch moves them
IGNORED = -2  # the class target of an anchor that adds nothing to the class loss

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class OfficialSettings:
    """Hyper-parameters of the step; the defaults are those of `hparams_config.py: default_detection_configs`."""

    learning_rates: Sequence[float]  # one per step
    first_step: int = 0  # steps taken before, which the averages' decay depends on
    momentum: float = 0.9
    clip_norm: float = 10.0
    weight_decay: float = 4e-5
    average_decay: float = 0.9998
    alpha: float = 0.25
    gamma: float = 1.5
    label_smoothing: float = 0.0
    delta: float = 0.1
    box_weight: float = 50.0


class OfficialBatch(NamedTuple):
    """One batch; M anchors in the order of the outputs: level, row, column, anchor."""

    images: NDArray[np.float32]  # (B, H, W, 3), normalised
    classes: NDArray[np.int64]  # (B, M): from 0, -1 background, IGNORED
    codes: NDArray[np.float32]  # (B, M, 4) [ty, tx, th, tw], zeros where there is no box
    positives: float  # anchors with a box, of the whole batch


class OfficialStep(NamedTuple):
    """What one step computed, from the variables as they were before it."""

    learning_rate: float
    total: float  # classes + box_weight * boxes
    classes: float
    boxes: float
    weight_decay: float  # minimised together with `total`
    gradient_norm: float  # of all gradients, before any clipping


class OfficialTraining(NamedTuple):
    """Every step, and what they left, by official TF1 names."""

    steps: list[OfficialStep]
    variables: Arrays
    averages: Arrays  # of every variable, batch norms' statistics included: X/ExponentialMovingAverage
    momenta: Arrays  # of trained variables: X/Momentum


def official_training(
    config: Config,
    variables: Mapping[str, NDArray[np.float32]],
    batches: Iterable[OfficialBatch],
    settings: OfficialSettings,
    precision: str,
) -> OfficialTraining:
    """Take one step per batch, from `variables` (float32 arrays by official TF1 names), in "float32" or "float64".

    The moving averages start as the variables, momenta as zeros. Memory is that of a whole backward pass. Raises
    EffconvError without TensorFlow, or when the batches are not as many as the learning rates.
    """
    batches = list(batches)
    if len(batches) != len(settings.learning_rates):
        raise EffconvError(
            f"each batch needs its learning rate: found {len(batches)} batches and {len(settings.learning_rates)} rates"
        )
    run, steps = _Training(config, variables, settings, precision), []
    for count, (batch, rate) in enumerate(zip(batches, settings.learning_rates, strict=True), settings.first_step):
        steps.append(run.step(batch, rate))
        run.average(count + 1)
    kept = (run.network.variables, run.averages, run.momenta)
    return OfficialTraining(steps, *({name: value.numpy() for name, value in each.items()} for each in kept))


def is_trained(name: str) -> bool:
    """Whether training changes a variable by its gradient: all but the batch norms' statistics."""
    return not name.endswith(STATISTICS)


def is_decayed(name: str) -> bool:
    """Whether weight decay concerns a variable: the three kinds of kernels. Source: `reg_l2_loss`, its pattern."""
    return name.endswith("kernel")


class TrainedNetwork(OfficialNetwork):
    """The official EfficientDet in training: batch norms use their batch's statistics, which `moments` holds after.

    `variables` become `tf.Variable`s.
    """

    def __init__(self, config: Config, variables: Mapping[str, NDArray[np.float32]], precision: str):
        super().__init__(config, variables, precision)
        make = self.tensorflow.Variable
        self.variables = {name: make(value, trainable=is_trained(name)) for name, value in self.variables.items()}
        self.moments: dict[str, Tensor] = {}  # by the name of the statistic

    def _norm(self, name: str, x: Tensor) -> Tensor:
        # The fused operation's two variances: it normalises with the mean square, and hands the unbiased estimate on.
        mean, variance = self.tensorflow.nn.moments(x, [0, 1, 2])
        count = int(np.prod(x.shape[:3]))
        self.moments[f"{name}/moving_mean"] = mean
        self.moments[f"{name}/moving_variance"] = variance * (count / max(count - 1, 1))
        gamma, beta = (self.variables[f"{name}/{part}"] for part in ("gamma", "beta"))
        return self.tensorflow.nn.batch_normalization(x, mean, variance, beta, gamma, EPSILON)


class _Training:
    """The state between steps."""

    def __init__(
        self,
        config: Config,
        variables: Mapping[str, NDArray[np.float32]],
        settings: OfficialSettings,
        precision: str,
    ):
        self.settings, self.precision = settings, precision
        self.network = TrainedNetwork(config, variables, precision)
        tensorflow = self.tensorflow = self.network.tensorflow
        named = self.network.variables
        self.trained = {name: variable for name, variable in named.items() if is_trained(name)}
        self.momenta = {name: tensorflow.Variable(tensorflow.zeros_like(each)) for name, each in self.trained.items()}
        self.averages = {name: tensorflow.Variable(each) for name, each in named.items()}

    def step(self, batch: OfficialBatch, learning_rate: float) -> OfficialStep:
        tensorflow, settings, network = self.tensorflow, self.settings, self.network
        # Eagerly: building and optimising a graph takes longer than ten small steps do.
        floats = (batch.images, batch.codes, batch.positives, learning_rate)
        # Not `cast`, which makes a Python number a float32 first.
        images, codes, positives, rate = (tensorflow.constant(each, self.precision) for each in floats)
        with tensorflow.GradientTape() as tape:
            for _ in network.run(images):
                pass
            targets = tensorflow.constant(batch.classes), codes, positives
            classes, boxes = losses(tensorflow, network.config, network.outputs, targets, settings)
            total = classes + settings.box_weight * boxes
            decay = weight_decay(tensorflow, network.variables, settings.weight_decay)
            objective = total + decay
        found = tape.gradient(objective, list(self.trained.values()), unconnected_gradients="zero")
        norm = tensorflow.linalg.global_norm(found)
        gradients = clipped(tensorflow, found, settings.clip_norm)
        for (name, variable), gradient in zip(self.trained.items(), gradients, strict=True):
            apply_momentum(tensorflow, variable, self.momenta[name], gradient, rate, settings.momentum)
        for name, moment in network.moments.items():
            statistic = network.variables[name]
            statistic.assign_sub((statistic - moment) * NORM_RATE)
        return OfficialStep(learning_rate, *(float(each) for each in (total, classes, boxes, decay, norm)))

    def average(self, steps: int) -> None:
        rate = 1 - effective_decay(self.settings.average_decay, steps)
        for name, average in self.averages.items():
            average.assign_sub((average - self.network.variables[name]) * rate)


def effective_decay(decay: float, steps: int) -> float:
    """The averages' decay once `steps` were taken, the present one included: it rises from 2/11.

    Source: TensorFlow `training/moving_averages.py: ExponentialMovingAverage` with `num_updates`, the step counter,
    which is read after the step has raised it.
    """
    return min(decay, (1 + steps) / (10 + steps))


def apply_momentum(
    tensorflow: Any, variable: Tensor, momentum: Tensor, gradient: Tensor, rate: Tensor, factor: float
) -> None:
    """momentum = factor * momentum + gradient; variable -= rate * momentum: the kernel of TF1's MomentumOptimizer.

    The rate is no part of what is accumulated, as it is in Keras: while the rate changes the two are different.
    """
    kept = tensorflow.constant(factor, variable.dtype)
    tensorflow.raw_ops.ResourceApplyMomentum(
        var=variable.handle, accum=momentum.handle, lr=rate, grad=gradient, momentum=kept
    )


def clipped(tensorflow: Any, gradients: Sequence[Tensor], limit: float) -> list[Tensor]:
    """First each gradient down to a norm of `limit`, then all of them together."""
    each = [tensorflow.clip_by_norm(gradient, limit) for gradient in gradients]
    together, _ = tensorflow.clip_by_global_norm(each, limit)
    return list(together)


def weight_decay(tensorflow: Any, variables: Mapping[str, Tensor], factor: float) -> Tensor:
    """factor * sum over kernels of half their square sum."""
    return factor * tensorflow.add_n(
        [tensorflow.nn.l2_loss(value) for name, value in variables.items() if is_decayed(name)]
    )


def losses(
    tensorflow: Any,
    config: Config,
    outputs: Mapping[str, Tensor],
    targets: tuple[Tensor, Tensor, Tensor],
    settings: OfficialSettings,
) -> tuple[Tensor, Tensor]:
    """(class loss, box loss) of `outputs`, class_outputs/L (B, h, w, A*C) and box_outputs/L (B, h, w, A*4).

    `targets` are an OfficialBatch's classes, codes and positives, the last two in the outputs' type.
    """
    classes, codes, positives = targets
    normaliser = positives + 1.0
    of_classes, of_boxes, start = [], [], 0
    for level in config.levels:
        logits, boxes = (
            tensorflow.reshape(outputs[f"{kind}_outputs/{level}"], [classes.shape[0], -1, channels])
            for kind, channels in (("class", config.num_classes), ("box", 4))
        )
        anchors = slice(start, start + logits.shape[1])
        start = anchors.stop
        of_classes.append(_focal_loss(tensorflow, logits, classes[:, anchors], settings))
        of_boxes.append(_huber_loss(tensorflow, boxes, codes[:, anchors], settings.delta))
    return tensorflow.add_n(of_classes) / normaliser, tensorflow.add_n(of_boxes) / (normaliser * 4.0)


def _focal_loss(tensorflow: Any, logits: Tensor, wanted: Tensor, settings: OfficialSettings) -> Tensor:
    alpha, smoothing = settings.alpha, settings.label_smoothing
    true = tensorflow.one_hot(wanted, logits.shape[-1], dtype=logits.dtype)  # negative classes are all zeros
    probability = tensorflow.sigmoid(logits)
    hit = true * probability + (1.0 - true) * (1.0 - probability)
    weight = true * alpha + (1.0 - true) * (1.0 - alpha)
    smoothed = true * (1.0 - smoothing) + 0.5 * smoothing  # concerns the cross entropy alone
    cross_entropy = tensorflow.nn.sigmoid_cross_entropy_with_logits(labels=smoothed, logits=logits)
    counted = tensorflow.cast(wanted[..., None] != IGNORED, logits.dtype)
    return tensorflow.reduce_sum(weight * (1.0 - hit) ** settings.gamma * cross_entropy * counted)


def _huber_loss(tensorflow: Any, codes: Tensor, wanted: Tensor, delta: float) -> Tensor:
    error = tensorflow.abs(codes - wanted)
    square = tensorflow.minimum(error, delta)
    loss = 0.5 * square * square + delta * (error - square)
    return tensorflow.reduce_sum(loss * tensorflow.cast(wanted != 0, codes.dtype))
