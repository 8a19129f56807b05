"""Training steps: what they change, what they leave, and that they can be cut, shared out and taken up again."""

import copy
import dataclasses
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from effconv.effdet_torch.backbone import MBConv
from effconv.effdet_torch.config import ConfigError, get_config
from effconv.effdet_torch.model import EfficientDet
from effconv.effdet_torch.ops import BatchNorm
from effconv.effdet_torch.training.start import CLASS_PREDICTIONS, random_model, transferred
from effconv.effdet_torch.training.stochastic_depth import drop_blocks, drop_repeats, official_survival
from effconv.effdet_torch.training.targets import batch_targets
from effconv.effdet_torch.training.trainer import NotFiniteError, Training, TrainingError, TrainingSettings
from kept_runs import hooks
from training_data import BATCH, SCHEDULE, TINY, made_up_batch, steps, training


def test_a_step_lowers_the_loss_of_its_batch() -> None:
    given = training()
    images, targets = made_up_batch(0)
    records = [given.step(images, batch_targets(targets)) for _ in range(6)]
    assert records[-1].total < records[0].total
    assert records[0].total > records[0].classes + 50 * records[0].boxes  # by the weight decay
    assert [record.rate for record in records] == [SCHEDULE(step) for step in range(6)]
    assert given.steps == given.average.updates == 6


def test_what_is_evaluated_are_the_moving_averages() -> None:
    given = training()
    steps(given, 0, 2)
    averaged = given.averaged()
    assert not averaged.training
    assert given.model.training
    state = averaged.state_dict()
    assert all(torch.equal(state[name], value) for name, value in given.average.values.items())
    assert not torch.equal(state["backbone.stem.conv.weight"], given.model.backbone.stem.conv.weight)


def test_a_training_taken_up_again_goes_on_as_if_never_stopped() -> None:
    """With everything that draws or remembers: stochastic depth, momentum, averages, statistics."""
    settings = TrainingSettings(survival=0.5)
    whole = steps(training(settings), 0, 6)
    first = training(settings)
    assert steps(first, 0, 3) == whole[:3]
    file = io.BytesIO()
    torch.save(first.state(), file)
    file.seek(0)
    second = training(settings, seed=7)
    second.restore(torch.load(file, weights_only=True))
    assert steps(second, 3, 6) == whole[3:]


def test_the_state_of_another_training_is_refused() -> None:
    given = training()
    state = given.state()
    for damage in ({**state, "momentum": {}}, {**state, "model": {}}, {**state, "average": None}):
        with pytest.raises(TrainingError, match="not the state of this training"):
            given.restore(damage)


def test_parts_add_up_to_the_whole() -> None:
    """Batch statistics aside, which are therefore frozen here."""
    whole = steps(training(TrainingSettings(frozen_norms=True)), 0, 3)
    parts = steps(training(TrainingSettings(frozen_norms=True, parts=BATCH)), 0, 3)
    for one, other in zip(whole, parts, strict=True):
        # The order of sums differs: the last bits of float32.
        assert one == pytest.approx(other, rel=1e-5)


def require_changed(model: EfficientDet, before: dict[str, torch.Tensor], frozen: Callable[[str], bool]) -> None:
    """What is frozen is as before; of the rest all kernels are not (a step may be less than a rounding elsewhere)."""
    for name, value in model.state_dict().items():
        if frozen(name):
            assert torch.equal(value, before[name]), name
        elif value.ndim == 4:
            assert not torch.equal(value, before[name]), name


def test_frozen_norms_keep_statistics_and_weights() -> None:
    given = training(TrainingSettings(frozen_norms=True))
    before = {name: value.clone() for name, value in given.model.state_dict().items()}
    steps(given, 0, 2)
    norms = {name for name, module in given.model.named_modules() if isinstance(module, BatchNorm)}
    require_changed(given.model, before, lambda name: name.rpartition(".")[0] in norms)


def test_a_frozen_backbone_stays_as_it_is() -> None:
    given = training(TrainingSettings(frozen_backbone=True))
    before = {name: value.clone() for name, value in given.model.state_dict().items()}
    steps(given, 0, 2)
    require_changed(given.model, before, lambda name: name.startswith("backbone."))


def broken_box_head(given: Training, images: torch.Tensor) -> None:
    """Box codes of infinity: the box loss alone is not finite."""
    bias = given.model.box_head.predict.pointwise.bias
    assert bias is not None
    with torch.no_grad():
        bias[0] = torch.inf


def broken_gradient(given: Training, images: torch.Tensor) -> None:
    """A gradient of NaN behind a layer of finite values."""
    weight = given.model.bifpn.cells[0].nodes[0].conv.pointwise.weight  # type: ignore[index, union-attr]
    weight.register_hook(lambda gradient: gradient * torch.nan)


def broken_image(given: Training, images: torch.Tensor) -> None:
    images[2, 0, 0, 0] = torch.nan


def huge_image(given: Training, images: torch.Tensor) -> None:
    images[3] = 3e38


NOT_FINITE: dict[str, tuple[Any, str, tuple[int, ...]]] = {
    "box head": (
        broken_box_head,
        r"step 2: the box loss is (nan|inf); the first layer with .* is box_head\.predict\.pointwise$",
        (0, 1, 2, 3),
    ),
    "gradient": (
        broken_gradient,
        r"step 2: the gradient is nan; every layer's values are finite, not so the gradient of bifpn\.cells\.0\.",
        (),
    ),
    "image": (broken_image, r"step 2: the class loss is nan and the box loss is nan; .* is the input$", (2,)),
    "overflow": (huge_image, r"step 2: .*; the first layer with .* is backbone\.stem\.conv$", (3,)),
}


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("kind", NOT_FINITE)
def test_a_loss_that_is_not_finite_stops_the_training(kind: str, parts: int) -> None:
    """Named are the loss, the step, the first layer and the images; nothing is changed, statistics neither."""
    breaks, message, affected = NOT_FINITE[kind]
    settings = TrainingSettings(survival=0.5, parts=parts)
    given, other = training(settings), training(settings)
    steps(given, 0, 2)
    steps(other, 0, 2)
    images, targets = made_up_batch(2)
    breaks(given, images)
    before = copy.deepcopy(given.state())
    with pytest.raises(NotFiniteError, match=message) as caught:
        given.step(images, batch_targets(targets))
    assert caught.value.images == affected
    after = given.state()
    for part in ("model", "average", "momentum"):
        assert all(torch.equal(value, before[part][name]) for name, value in after[part].items()), part
    assert hooks(given.model) == hooks(other.model)
    if kind in ("image", "overflow"):  # and it can go on
        assert steps(given, 2, 3) == steps(other, 2, 3)


def test_bfloat16_computes_otherwise_but_keeps_float32_weights() -> None:
    plain, mixed = (training(TrainingSettings(precision=name)) for name in ("float32", "bfloat16"))
    one, other = steps(plain, 0, 1)[0], steps(mixed, 0, 1)[0]
    assert one.total != other.total
    # bfloat16 has 8 bits of precision.
    assert other.total == pytest.approx(one.total, rel=2**-7)
    assert {value.dtype for value in mixed.model.state_dict().values()} == {torch.float32}


def test_stochastic_depth() -> None:
    model = random_model(TINY, 0)
    random = torch.Generator().manual_seed(3)
    drop_blocks(model, 0.2, random)
    last = max(index for index, block in enumerate(model.backbone.blocks) if block.has_skip)  # type: ignore[union-attr]
    block = model.backbone.blocks[last]
    assert isinstance(block, MBConv)
    norm = block.project_norm
    channels = norm.num_features
    x = torch.randn(4000, channels, 1, 1, generator=random)
    model.eval()
    assert torch.equal(norm(x), torch.nn.functional.batch_norm(x, norm.running_mean, norm.running_var, eps=norm.eps))
    norm.train()
    survived = norm(x).flatten(1)
    probability = 1 - 0.8 * last / len(model.backbone.blocks)
    share = float(survived.any(1).float().mean())
    assert share == pytest.approx(probability, abs=4 * (0.25 / 4000) ** 0.5)  # four standard deviations
    whole = torch.nn.functional.batch_norm(x, None, None, training=True, eps=norm.eps).flatten(1)
    kept = survived.any(1)
    torch.testing.assert_close(survived[kept], whole[kept] / probability)


def test_stochastic_depth_of_heads() -> None:
    with pytest.raises(ConfigError, match="tiny-swish has no residual heads"):
        drop_repeats(random_model(TINY, 0), 0.5, torch.Generator())
    model = random_model(dataclasses.replace(TINY, residual_heads=True), 0)
    drop_repeats(model, 0.5, torch.Generator().manual_seed(1))
    features = [torch.randn(8, TINY.fpn_channels, 4, 4, generator=torch.Generator().manual_seed(2))] * len(TINY.levels)
    head = model.class_head
    model.eval()
    first, again = head(features), head(features)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    kept: dict[str, torch.Tensor] = {}
    for repeat in range(2):
        norm = head.norms[repeat]["3"]  # type: ignore[index]
        norm.register_forward_hook(lambda _, given, made, name=repeat: kept.update({f"{name}": made}))
    model.train()
    head(features)
    assert kept["0"].flatten(1).any(1).all()  # the first repeat is never left out
    assert kept["1"].flatten(1).any(1).tolist().count(False) in range(1, 8)


def test_official_survival() -> None:
    assert official_survival(get_config("d0")) is None
    assert official_survival(get_config("d1")) == 0.8
    assert official_survival(get_config("lite0")) == 0.8


def test_another_number_of_classes_makes_the_class_predictions_new() -> None:
    trained = random_model(TINY, 1)
    state = trained.state_dict()
    start = transferred(state, TINY, (None,) * 3, seed=5)
    assert start.new == CLASS_PREDICTIONS
    assert start.model.config.num_classes == 3
    for name, value in start.model.state_dict().items():
        if name in start.new:
            assert value.shape[0] == 3 * TINY.num_anchors
        else:
            assert torch.equal(value, state[name])
    same = transferred(state, TINY, range(TINY.num_classes), seed=5)
    assert same.new == ()
    assert all(torch.equal(value, state[name]) for name, value in same.model.state_dict().items())


def test_class_predictions_are_taken_class_by_class() -> None:
    """A model of classes 2, none and 0 of the trained one gives their logits, for every anchor."""
    trained = random_model(TINY, 1).eval()
    for name in CLASS_PREDICTIONS:
        torch.nn.init.normal_(trained.get_parameter(name))
    start = transferred(trained.state_dict(), TINY, (2, None, 0), seed=5)
    assert start.new == ()
    images = torch.rand(1, 3, 64, 64)
    models = start.model.eval(), trained
    with torch.no_grad():
        found, expected = (model(images)[0][0].unflatten(1, (TINY.num_anchors, -1)) for model in models)
    torch.testing.assert_close(found[:, :, [0, 2]], expected[:, :, [2, 0]])
    torch.testing.assert_close(found[:, :, 1].sigmoid(), torch.full_like(found[:, :, 1], 0.01), rtol=0.1, atol=0)


def test_random_values_depend_on_the_seed_alone() -> None:
    torch.manual_seed(0)
    one = random_model(TINY, 3)
    following = torch.rand(())
    torch.manual_seed(0)
    assert torch.equal(torch.rand(()), following)  # the caller's draws are left alone
    other = random_model(TINY, 3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(next(random_model(TINY, 4).parameters()), next(one.parameters()))


SHARED_OUT = """
import json, sys
import torch
from effconv.effdet_torch.training.targets import batch_targets
from training_data import BATCH, made_up_batch, training
from effconv.effdet_torch.training.trainer import NotFiniteError, TrainingSettings
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
given = training(TrainingSettings(local_norms=sys.argv[2] == "local"), processes=2)
share = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
records = []
for number in range(5):
    images, targets = made_up_batch(number)
    records.append(given.step(images[share], batch_targets(targets[share])))
before = given.model.backbone.stem.norm.running_var.clone()
images, targets = made_up_batch(5)
images[BATCH - 1, 0, 0, 0] = torch.nan  # the other process's
try:
    given.step(images[share], batch_targets(targets[share]))
except NotFiniteError as error:
    failure = [str(error), error.images]
assert torch.equal(before, given.model.backbone.stem.norm.running_var)
if rank == 0:
    statistics = float(given.model.backbone.blocks[3].depthwise_norm.running_var.sum())
    average = float(given.average.values["backbone.stem.conv.weight"].abs().sum())
    open(sys.argv[1], "w").write(json.dumps([records, statistics, average, failure]))
states = [None, None]
torch.distributed.all_gather_object(states, {name: value for name, value in given.model.named_parameters()})
assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
torch.distributed.destroy_process_group()
"""


def two_processes(folder: Path, norms: str) -> list[Any]:
    """What the first of two processes found: records of five steps, sums of its statistics and averages, and what a
    step on an image of NaN raised.
    """
    script, output = folder / "shared_out.py", folder / "records.json"
    script.write_text(SHARED_OUT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([*command, str(output), norms], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(output.read_text())
    return found


def test_two_processes_train_as_one_with_their_batches_together(tmp_path: Path) -> None:
    records, statistics, average, failure = two_processes(tmp_path, "synchronised")
    assert "nan; the first layer with values that are not finite is the input" in failure[0]
    assert failure[1] == [BATCH - 1]
    alone = training()
    for found, expected in zip(records, steps(alone, 0, 5), strict=True):
        # Sums over a batch in another order; the gradient's norm gathers more of them.
        assert found[:4] == pytest.approx(list(expected)[:4], rel=1e-5)
        assert found[4] == pytest.approx(expected.gradient_norm, rel=1e-4)
    block = alone.model.backbone.blocks[3]
    assert isinstance(block, MBConv)
    assert statistics == pytest.approx(float(block.depthwise_norm.running_var.sum()), rel=1e-5)  # type: ignore[union-attr]
    assert average == pytest.approx(float(alone.average.values["backbone.stem.conv.weight"].abs().sum()), rel=1e-5)


def test_two_processes_with_norms_of_their_own(tmp_path: Path) -> None:
    """Another training than of the whole batch, yet one in which all processes have the same weights."""
    records, _, _, failure = two_processes(tmp_path, "local")
    assert failure[1] == [BATCH - 1]
    alone = steps(training(), 0, 5)
    for found, expected in zip(records, alone, strict=True):
        assert found[0] != pytest.approx(expected.total, rel=1e-4)
        assert found[0] == pytest.approx(expected.total, rel=0.2)
