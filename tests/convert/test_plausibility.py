"""Moving averages that training can hardly have left are named; those of trained models are not."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from effconv.cli import main
from effconv.convert.apply import EMA_SUFFIX
from effconv.convert.conversion import convert, write_checkpoint
from effconv.convert.fingerprints import known_checkpoints
from effconv.convert.inspection import inspect_checkpoint
from effconv.convert.layout import Array
from effconv.convert.plausibility import AveragesWarning, examine
from effconv.convert.rules import rules
from effconv.convert.sources import open_checkpoint
from effconv.convert.weights_file import save_weights
from effconv.effdet_torch.config import get_config
from tensors import config_of, read_all, write_tensors

SWISH = Path(__file__).parent.parent / "golden" / "tiny-swish"
Tensors = dict[str, Array]


def no_beta_moved(tensors: Tensors) -> None:
    """As an export that restores nothing leaves them, but for one gamma."""
    for rule in rules(config_of(SWISH)):
        kind = rule.tf.rpartition("/")[2]
        if kind in ("beta", "gamma"):
            tensors[rule.tf + EMA_SUFFIX] = np.full(rule.shape, kind == "gamma", np.float32)
    tensors["resample_p6/bn/gamma" + EMA_SUFFIX] = np.full(tensors["resample_p6/bn/gamma"].shape, 1.5, np.float32)


def no_mean_moved(tensors: Tensors) -> None:
    for name, value in tensors.items():
        if name.endswith("/moving_mean" + EMA_SUFFIX):
            tensors[name] = np.zeros_like(value)


def never_averaged(tensors: Tensors) -> None:
    for rule in rules(config_of(SWISH)):
        tensors[rule.tf + EMA_SUFFIX] = tensors[rule.tf]


PLANTED = [
    (
        no_beta_moved,
        "147 of the 487 moving averages equal their initial values (73 of 74 of kind gamma, 74 of 74 of kind beta)",
    ),
    (no_mean_moved, "74 of the 487 moving averages equal their initial values (74 of 74 of kind moving_mean), which"),
    (never_averaged, "487 of the 487 moving averages equal the raw weights bit for bit: averaging never ran, "),
]


@pytest.mark.parametrize(("plant", "expected"), PLANTED)
def test_what_training_does_not_leave_is_named(plant: Callable[[Tensors], None], expected: str, tmp_path: Path) -> None:
    tensors = dict(read_all(SWISH))
    plant(tensors)
    path = write_tensors(tmp_path / "model", tensors)
    with pytest.warns(AveragesWarning) as caught:
        conversion = convert(open_checkpoint(path), config_of(SWISH))
    assert expected in str(caught[0].message)
    assert conversion.plan.weights == "ema"
    averages = conversion.manifest["averages"]
    assert expected in averages["warning"]
    assert max(averages["initial"], averages["raw"]) == int(expected.split()[0])

    options = ["--model", str(SWISH / "config.json"), "--ckpt", str(path)]
    result = CliRunner().invoke(main, ["tf2torch", *options, "-o", str(tmp_path / "w.safetensors"), "--json"])
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("effconv: warning: ")
    assert expected in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert json.loads(result.stdout)["averages"] == averages
    raw = CliRunner().invoke(main, ["tf2torch", *options, "-o", str(tmp_path / "w.safetensors"), "--weights", "raw"])
    assert (raw.exit_code, raw.stderr) == (0, "")


def test_a_trained_detector_and_the_golden_checkpoints_are_taken_without_a_word(tiny: Path, repository: Path) -> None:
    for folder in (tiny, repository / "examples" / "shapes"):
        with warnings.catch_warnings():
            warnings.simplefilter("error", AveragesWarning)
            found = convert(open_checkpoint(folder), config_of(folder)).manifest["averages"]
        assert found["warning"] == ""
        assert found["initial"] == (6 if folder.name == "shapes" else 0)


def test_one_set_that_effconv_wrote_as_both_is_said_once_and_not_warned_of(tmp_path: Path) -> None:
    """Where it was not effconv, or one tensor is another, equal averages stay a sign of averaging that never ran."""
    config, prefix = config_of(SWISH), tmp_path / "one" / "model"
    state = convert(open_checkpoint(SWISH), config).state
    save_weights(state, config, tmp_path / "w.safetensors")
    result = CliRunner().invoke(main, ["torch2tf", str(tmp_path / "w.safetensors"), "-o", str(prefix)])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "487 variables, each also as its own moving average" in result.stdout
    with warnings.catch_warnings():
        warnings.simplefilter("error", AveragesWarning)
        found = convert(open_checkpoint(prefix.parent), config)
    said = "effconv wrote one set of weights here, as raw weights and as moving averages alike"
    assert (found.plan.notice, found.manifest["averages"]["raw"]) == (said, 487)
    bias = "class_head.predict.pointwise.bias"
    write_checkpoint(state, {**state, bias: state[bias] + 1}, config, prefix, "test")
    with pytest.warns(AveragesWarning, match="486 of the 487 moving averages equal the raw weights"):
        convert(open_checkpoint(prefix), config)
    write_checkpoint(state, state, config, prefix, "test")
    prefix.with_name("checkpoint").unlink()
    with pytest.warns(AveragesWarning, match="487 of the 487 moving averages equal the raw weights"):
        assert convert(open_checkpoint(prefix), config).plan.notice == ""


@pytest.mark.parametrize("label", [known.label for known in known_checkpoints()])
def test_released_checkpoints_are_plausible_though_many_averages_equal_the_raw_weights(label: str) -> None:
    known = next(known for known in known_checkpoints() if known.label == label)
    names = [(rule, rule.tf + EMA_SUFFIX, rule.tf) for rule in rules(get_config(known.model))]
    found = examine(names, known.checksums, ours=False)
    assert (found.initial, found.warning) == (0, "")
    assert found.raw > found.chosen / 2


@pytest.mark.shared
def test_inspect_says_it_too(full_size: Callable[[str], Path], tmp_path: Path) -> None:
    tensors = dict(read_all(full_size("efficientdet-d0")))
    assert (
        "implausible"
        not in inspect_checkpoint(open_checkpoint(full_size("efficientdet-d0")), checked=True)["moving_averages"]
    )
    no_mean_moved(tensors)
    found = inspect_checkpoint(open_checkpoint(write_tensors(tmp_path / "model", tensors)), checked=True)[
        "moving_averages"
    ]
    assert found.startswith("709 of 709; implausible: 108 of the 709 moving averages equal their initial values")
