"""The reference reads a checkpoint through TensorFlow: a wrong reader, or a wrong choice of averages, cannot agree."""

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from effconv.convert import conversion
from effconv.convert.apply import EMA_SUFFIX, Plan, plan
from effconv.convert.formats.bundle import Bundle
from effconv.convert.layers import layers
from effconv.convert.rules import rules
from effconv.convert.sources import Checkpoint
from effconv.effdet_torch.config import Config, get_config
from effconv.errors import CheckpointError
from effconv.loading import load
from effconv.parity.comparison.compare import compare
from effconv.parity.comparison.explain import Explained
from effconv.parity.comparison.records import Candidate, Images, Reference
from effconv.parity.comparison.report import comparison_markdown
from effconv.parity.comparison.rows import Row, first_failure
from effconv.parity.comparison.verdict import Sides, comparison_record
from effconv.parity.embedded import CONFIG, FOLDER
from effconv.parity.reference.reading import BY_TENSORFLOW, NOT_COVERED, official_names, read_with_tensorflow
from effconv.parity.traces import official
from effconv.parity.traces.images import noise
from effconv.parity.traces.official import OfficialTrace, official_variables
from tensors import Tensors, config_of, read_all, same_bits, write_tensors

LITE = Path(__file__).parents[2] / "golden" / "tiny-lite"

pytestmark = pytest.mark.tf


def compared(path: Path, config: Config) -> tuple[OfficialTrace, list[Row]]:
    """Every layer, both sides from the checkpoint on, as `effconv parity` does it."""
    variables, source = official_variables(path, config)
    trace = OfficialTrace(config, variables, noise(0, (64, 64)), source)
    return trace, compare(trace, load(path, model=config))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The embedded detector as a release is packed."""
    path = tmp_path / "shapes.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in ("checkpoint", "model.index", "model.data-00000-of-00001"):
            tar.add(FOLDER / name, f"efficientdet-shapes/{name}")
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_a_reader_that_returns_a_neighbours_tensor_is_found(
    packed: bool, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, path = get_config(str(CONFIG)), archive if packed else FOLDER
    shapes = {rule.tf: rule.shape for rule in rules(config)}
    asked = next(name for name in shapes if name.endswith("blocks_5/conv2d/kernel"))
    neighbour = next(name for name, shape in shapes.items() if name != asked and shape == shapes[asked])
    taken = {f"{asked}{EMA_SUFFIX}": f"{neighbour}{EMA_SUFFIX}"}
    read = Bundle.read
    monkeypatch.setattr(Bundle, "read", lambda self, name: read(self, taken.get(name, name)))
    first = first_failure(compared(path, config)[1])
    assert first is not None
    assert first.layer.official == asked.replace("kernel", "Conv2D")


def raw_called_averages(checkpoint: Checkpoint, config: Config, weights: str | None = None) -> Plan:
    return plan(checkpoint, config, "raw")._replace(weights="ema")


def test_raw_weights_called_averages_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "plan", raw_called_averages)
    monkeypatch.setattr(official, "plan", raw_called_averages)
    first = first_failure(compared(FOLDER, get_config(str(CONFIG)))[1])
    assert first is not None
    assert first.layer.key == layers(get_config(str(CONFIG)))[0].key


def test_without_a_fault_a_folder_and_an_archive_hold(archive: Path) -> None:
    for path in (FOLDER, archive):
        trace, rows = compared(path, get_config(str(CONFIG)))
        assert first_failure(rows) is None
        assert (trace.source["weights"], trace.source["reading"]) == ("ema", BY_TENSORFLOW)
        assert "read" not in trace.source["label"]


def by_choice(tensors: Tensors, config: Config, suffix: str) -> Tensors:
    return {rule.tf: tensors[rule.tf + suffix] for rule in rules(config)}


def test_which_of_the_two_sets_is_read(tiny: Path, tmp_path: Path) -> None:
    config, tensors = config_of(tiny), read_all(tiny)
    plain, averages = (by_choice(tensors, config, suffix) for suffix in ("", EMA_SUFFIX))
    untrained = {
        name + EMA_SUFFIX: np.full(value.shape, name.endswith(("gamma", "moving_variance")), np.float32)
        for name, value in plain.items()
    }
    cases: list[tuple[Tensors, str | None, str, Tensors]] = [
        (tensors, None, "ema", averages),
        (tensors, "ema", "ema", averages),
        (tensors, "raw", "raw", plain),
        (plain, None, "only", plain),
        (plain, "raw", "only", plain),
        (plain | untrained, None, "only", plain),  # as an exported SavedModel has them
    ]
    for number, (stored, weights, kind, expected) in enumerate(cases):
        variables, source = official_variables(write_tensors(tmp_path / str(number), stored), config, weights)
        assert (source["weights"], source["reading"]) == (kind, BY_TENSORFLOW)
        assert set(variables) == set(expected)
        same_bits({name: variables[name] for name in expected}, expected)
    # Both sets as they are before training: nothing says that the shadows are not meant.
    everything = {name.removesuffix(EMA_SUFFIX): value for name, value in untrained.items()} | untrained
    _, source = official_variables(write_tensors(tmp_path / "new", everything), config)
    assert source["weights"] == "ema"


@pytest.mark.parametrize("model", ["d0", "d6", "d7x", "lite0", "lite4"])
def test_the_official_network_asks_for_the_variables_the_rules_have(model: str) -> None:
    config = get_config(model)
    shapes = {rule.tf: rule.shape for rule in rules(config)}
    names = official_names(config, shapes | {"global_step": ()}, Path(model))
    assert (len(names), set(names)) == (len(shapes), set(shapes))


def test_the_state_file_says_which_checkpoint_of_a_folder(tmp_path: Path) -> None:
    config, tensors = config_of(LITE), read_all(LITE)
    older = {name: value * np.float32(2) if value.dtype == np.float32 else value for name, value in tensors.items()}
    for name, stored in (("model-1", older), ("model-2", tensors)):
        write_tensors(tmp_path / "run" / name, stored)
    (tmp_path / "run" / "checkpoint").write_text('model_checkpoint_path: "model-2"\n')
    with tarfile.open(tmp_path / "run.tar", "w") as tar:
        tar.add(tmp_path / "run", "run")
    for path in (tmp_path / "run", tmp_path / "run.tar", tmp_path / "run" / "model-2.index"):
        variables, source = official_variables(path, config)
        assert source["reading"] == BY_TENSORFLOW
        assert variables["class_net/class-predict/bias"].tobytes() == (
            tensors["class_net/class-predict/bias" + EMA_SUFFIX].tobytes()
        )


@pytest.mark.parametrize("file", ["tiny-lite.h5", "keras"])
def test_what_only_we_read_is_said_not_to_be_covered(file: str) -> None:
    config = config_of(LITE)
    trace, rows = compared(LITE / file, config)
    assert trace.source["reading"] == NOT_COVERED
    images = Images(label="noise", shape=(1, 3, 64, 64))
    sides = Sides(Reference.of(trace.source), Candidate(label="effconv"), images)
    record = comparison_record("tiny", rows, [], Explained(), sides, "parity")
    assert record.verdict.endswith("layers hold; how the weights were read is not covered")
    assert f"with weights read {NOT_COVERED}" in record.reference.label
    assert "effconv (not covered" in comparison_markdown(record)


def test_what_tensorflow_cannot_read_is_an_error(tmp_path: Path) -> None:
    config, folder = config_of(LITE), tmp_path / "copy"
    shutil.copytree(LITE, folder)
    data = folder / "model.data-00000-of-00001"
    with data.open("r+b") as file:
        file.write(b"\xff" * 4096)
    with pytest.raises(CheckpointError, match="copy: TensorFlow cannot read "):
        official_variables(folder, config)
    (folder / "model.index").write_bytes(b"no table" * 100)
    with pytest.raises(CheckpointError, match="TensorFlow cannot read it "):
        read_with_tensorflow(folder, config, None, folder / "model")


def test_a_variable_that_tensorflow_does_not_find_is_an_error(tmp_path: Path) -> None:
    tensors = read_all(LITE)
    prefix = write_tensors(tmp_path / "model", {name: value for name, value in tensors.items() if "-bn-3/" not in name})
    with pytest.raises(CheckpointError, match=r"TensorFlow finds no .*-bn-3/.* in it, which the official"):
        read_with_tensorflow(prefix, config_of(LITE), None, prefix)


def test_an_archive_of_two_checkpoints_is_left_to_our_reader(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "two.tar", "w") as tar:
        for name in ("a", "b"):
            tar.add(LITE / "model.index", f"{name}/model.index")
    assert read_with_tensorflow(tmp_path / "two.tar", config_of(LITE), None, None) is None
