"""The parts of the official training step: its losses, and the rest beside TensorFlow's own classes."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from effconv.parity.reference.network import import_tensorflow
from effconv.parity.reference.training import (
    OfficialSettings,
    TrainedNetwork,
    apply_momentum,
    clipped,
    effective_decay,
    is_decayed,
    is_trained,
    losses,
)
from effconv.parity.traces.golden import Golden
from tensors import config_of

CONFIG = config_of(Path(__file__).parents[2] / "golden" / "tiny-swish")

pytestmark = pytest.mark.tf


# --- the losses --------------------------------------------------------------------------------------------------


RECORDED: dict[str, dict[str, float]] = {
    "tf1/default": {},
    "tf1/label_smoothing0.1": {"label_smoothing": 0.1},
    "tf1/gamma2_alpha0.4_delta0.5": {"gamma": 2.0, "alpha": 0.4, "delta": 0.5},
    "tf1/with_ignore": {},
}


@pytest.mark.shared
@pytest.mark.parametrize("name", RECORDED)
def test_recorded_losses(name: str, shared: Path) -> None:
    tensorflow = import_tensorflow()
    golden = Golden(shared / "goldens" / "act_tiny-swish_128x160.npz")
    outputs = {}
    for output in (f"{kind}_outputs/{level}" for kind in ("class", "box") for level in CONFIG.levels):
        outputs[output] = tensorflow.constant(golden[output].sample.reshape(golden[output].shape))
    with np.load(shared / "goldens" / "loss.npz") as record:
        labelled = [f"label_tiny-swish_{image}" for image in (0, 1)]
        found = {}
        for kind, channels in (("cls", ()), ("box", (4,))):
            of_images = [
                [record[f"{label}/{kind}_targets_{level}"].reshape(-1, *channels) for level in CONFIG.levels]
                for label in labelled
            ]
            found[kind] = np.stack([np.concatenate(levels) for levels in of_images])
        if "ignore" in name:
            levels = [record[f"ignore/cls_targets_{level}"].reshape(2, -1) for level in CONFIG.levels]
            found["cls"] = np.concatenate(levels, 1)
        positives = np.float32(sum(record[f"{label}/num_positives"] for label in labelled))
        expected = json.loads(str(record["meta"]))["losses"][name]
    settings = OfficialSettings(learning_rates=(), **RECORDED[name])
    classes, boxes = losses(tensorflow, CONFIG, outputs, (found["cls"], found["box"], positives), settings)
    assert float(classes) == pytest.approx(expected["cls_loss"], rel=1e-6)
    assert float(boxes) == pytest.approx(expected["box_loss"], rel=1e-6)
    assert float(classes + settings.box_weight * boxes) == pytest.approx(expected["total"], rel=1e-6)


# --- the parts beside TensorFlow's own classes -------------------------------------------------------------------


def test_momentum_clipping_and_averages_are_those_of_tf1() -> None:
    """A graph built as `_model_fn` builds its own, of the TF1 classes that it uses, in a session."""
    tensorflow = import_tensorflow()
    v1, factors, rates = tensorflow.compat.v1, (3.0, 40.0), [0.01, 0.03, 0.02]
    starts = [np.array([1.0, -2.0], np.float32), np.array([0.5, 0.1, 4.0], np.float32)]
    with tensorflow.Graph().as_default(), v1.Session() as session:
        values = [v1.get_variable(f"v{place}", initializer=start) for place, start in enumerate(starts)]
        step, rate = v1.train.get_or_create_global_step(), v1.placeholder("float32", [])
        loss = tensorflow.add_n([f * tensorflow.nn.l2_loss(v) for f, v in zip(factors, values, strict=True)])
        optimizer = v1.train.MomentumOptimizer(rate, momentum=0.9)
        gradients = [tensorflow.clip_by_norm(gradient, 10.0) for gradient, _ in optimizer.compute_gradients(loss)]
        gradients = tensorflow.clip_by_global_norm(gradients, 10.0)[0]
        train = optimizer.apply_gradients(zip(gradients, values, strict=True), step)
        average = v1.train.ExponentialMovingAverage(0.9998, num_updates=step)
        with tensorflow.control_dependencies([train]):
            train = average.apply(values)
        session.run(v1.global_variables_initializer())
        for each in rates:
            session.run(train, {rate: each})
        expected = session.run([values, [average.average(value) for value in values]])
    variables = [tensorflow.Variable(start) for start in starts]
    momenta = [tensorflow.Variable(tensorflow.zeros_like(start)) for start in starts]
    averages = [start.copy() for start in starts]
    for count, each in enumerate(rates, 1):
        limited = clipped(tensorflow, [f * v for f, v in zip(factors, variables, strict=True)], 10.0)
        for place, (variable, momentum) in enumerate(zip(variables, momenta, strict=True)):
            apply_momentum(tensorflow, variable, momentum, limited[place], tensorflow.constant(each), 0.9)
            averages[place] -= (averages[place] - variable.numpy()) * (1 - effective_decay(0.9998, count))
    for mine, theirs in zip(([each.numpy() for each in variables], averages), expected, strict=True):
        for one, two in zip(mine, theirs, strict=True):
            assert np.allclose(one, two, rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 5)])
def test_batch_norm_is_the_fused_operation(shape: tuple[int, ...]) -> None:
    tensorflow = import_tensorflow()
    random = np.random.RandomState(0)
    parts = {part: random.standard_normal(5).astype(np.float32) for part in ("gamma", "beta")}
    network = TrainedNetwork(CONFIG, {f"n/{part}": value for part, value in parts.items()}, "float32")
    x = tensorflow.constant(random.standard_normal(shape).astype(np.float32) * 3 + 1)
    fused = tensorflow.compat.v1.nn.fused_batch_norm(x, parts["gamma"], parts["beta"], epsilon=1e-3, is_training=True)
    found = network._norm("n", x), network.moments["n/moving_mean"], network.moments["n/moving_variance"]
    for one, two in zip(found, fused, strict=True):
        assert np.allclose(one, two, rtol=1e-5, atol=1e-5)


def test_the_averages_decay_rises_to_its_limit() -> None:
    assert [effective_decay(0.9998, steps) for steps in (1, 2, 44988, 44990, 10**6)] == pytest.approx(
        [2 / 11, 3 / 12, 44989 / 44998, 0.9998, 0.9998], rel=1e-12
    )


@pytest.mark.shared
@pytest.mark.parametrize("model", ["efficientdet-d0", "efficientdet-d7x", "efficientdet-lite0", "tiny-swish"])
def test_what_is_trained_and_what_decays(model: str, shared: Path) -> None:
    with gzip.open(shared / "goldens" / "variables" / f"variables_{model}.json.gz") as file:
        record = json.load(file)
    trained = [each["name"] for each in record["tf1"] if each["trainable"]]
    assert [each["name"] for each in record["tf1"] if is_trained(each["name"])] == trained
    assert {name for name in trained if is_decayed(name)} == set(record["tf1_weight_decay_vars"])
    if model == "efficientdet-d0":
        assert (len(trained), len(record["tf1_weight_decay_vars"])) == (493, 150)
