"""The containers of the Keras implementation, written: the names, order and values that its own files have."""

import gzip
import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from effconv.convert.apply import IncompleteConversion
from effconv.convert.conversion import convert
from effconv.convert.formats import hdf5
from effconv.convert.keras_containers import h5_layers, write_h5, write_object_checkpoint
from effconv.convert.layout import Array
from effconv.convert.output import OutputError
from effconv.convert.rules import rules
from effconv.convert.sources import OBJECT_GRAPH, Container, open_checkpoint
from effconv.effdet_torch.config import OFFICIAL_NAMES, VARIANTS, Config, get_config
from tensors import config_of, read_all, same_bits

TINY = ("tiny-swish", "tiny-sum8", "tiny-lite")


def random_state(config: Config) -> dict[str, Array]:
    random = np.random.default_rng(0)
    shapes = {rule.torch: rule.layout.torch_shape(rule.shape) for rule in rules(config)}
    return {key: random.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}


def listing(path: Path) -> dict[str, object]:
    """All that a reader of Keras's `.h5` looks at, and how it is stored; arrays as their bytes."""
    found: dict[str, object] = {}

    def add(name: str, value: h5py.Group | h5py.Dataset) -> None:
        if isinstance(value, h5py.Dataset):
            found[name] = (value.dtype.str, value.shape, value[()].tobytes())
        for attribute in value.attrs:
            stored = value.attrs.get_id(attribute)
            kind = h5py.check_string_dtype(stored.dtype) or stored.dtype
            found[f"{name}@{attribute}"] = (str(kind), stored.shape, np.asarray(value.attrs[attribute]).tolist())

    with h5py.File(path) as file:
        add("", file)
        file.visititems(add)
    return found


def test_h5_is_what_keras_saved(tiny: Path, tmp_path: Path) -> None:
    state = convert(open_checkpoint(tiny), config_of(tiny)).state
    written, manifest = write_h5(state, config_of(tiny), tmp_path / "x.h5", {"file": "somewhere"})
    ours, theirs = listing(written), listing(tiny / f"{tiny.name}.h5")
    assert list(ours) == list(theirs)
    assert ours == theirs
    described = json.loads(manifest.read_text())
    assert (described["file"], described["container"]) == ("x.h5", "Keras .h5")
    assert (described["model"], described["tensors"]) == (tiny.name, len(state))
    assert described["source"] == {"file": "somewhere"}
    again, _ = write_h5(state, config_of(tiny), tmp_path / "y.h5", {})
    assert again.read_bytes() == written.read_bytes()


def test_object_checkpoint_is_what_keras_saved(tiny: Path, tmp_path: Path) -> None:
    state = convert(open_checkpoint(tiny), config_of(tiny)).state
    paths = write_object_checkpoint(state, config_of(tiny), tmp_path / "x", "a test")
    assert [path.name for path in paths] == ["x.data-00000-of-00001", "x.index", "checkpoint"]
    ours = open_checkpoint(tmp_path)
    assert ours.path == tmp_path / "x"
    assert ours.container is Container.KERAS_OBJECTS
    ours.verify()
    assert next(iter(ours.variables)) == OBJECT_GRAPH  # by which the official loader knows such a file
    same_bits(read_all(tmp_path), read_all(tiny / "keras"))


@pytest.mark.parametrize("model", ["efficientdet-d0", "efficientdet-lite0"])
def test_both_come_back_to_the_bit(model: str, tmp_path: Path) -> None:
    config = get_config(model)
    state = random_state(config)
    write_h5(state, config, tmp_path / "x.h5", {})
    write_object_checkpoint(state, config, tmp_path / "x", "a test")
    for path in (tmp_path / "x.h5", tmp_path / "x"):
        conversion = convert(open_checkpoint(path), config)
        same_bits(conversion.state, state)
        assert set(conversion.plan.dropped) <= {OBJECT_GRAPH}


@pytest.mark.shared
@pytest.mark.parametrize("model", [*OFFICIAL_NAMES, *TINY])
def test_the_order_is_the_official_one(model: str, shared: Path, repository: Path) -> None:
    config = get_config(model if model in VARIANTS else str(repository / "tests" / "golden" / model / "config.json"))
    with gzip.open(shared / "goldens" / "variables" / f"variables_{model}.json.gz") as file:
        official = json.load(file)
    layers = h5_layers(config)
    assert list(layers) == official["h5_attrs"]["layer_names"]
    theirs: dict[str, list[str]] = {name: [] for name in layers}
    for row in official["h5"]:
        theirs[row["group"]].append(row["path"])
    assert {name: [rule.h5_path for rule in weights] for name, weights in layers.items()} == theirs


def test_names_that_one_attribute_cannot_hold_are_split_as_keras_splits_them(tmp_path: Path) -> None:
    """Only d7x is so large: its backbone's names take two attributes, the other layers' one."""
    config = get_config("d7x")
    layers = {
        name: {f"{rule.tf}:0": np.zeros((), np.float32) for rule in weights}
        for name, weights in h5_layers(config).items()
    }
    path = tmp_path / "x.h5"
    path.write_bytes(hdf5.weights_file(layers))
    with h5py.File(path) as file:
        attributes = {name: list(file[name].attrs) for name in layers}
        names = [name.decode() for part in (0, 1) for name in file["efficientnet-b7"].attrs[f"weight_names{part}"]]
    assert attributes.pop("efficientnet-b7") == ["weight_names0", "weight_names1"]
    assert set(map(tuple, attributes.values())) == {("weight_names",)}
    assert names == list(layers["efficientnet-b7"])
    assert len(open_checkpoint(path).variables) == len(rules(config))


WRITERS = {
    "h5": lambda state, config, folder: write_h5(state, config, folder / "x.h5", {}),
    "keras": lambda state, config, folder: write_object_checkpoint(state, config, folder / "x", "a test"),
}


@pytest.mark.parametrize("container", WRITERS)
def test_an_incomplete_state_is_refused_and_nothing_left(container: str, tmp_path: Path) -> None:
    config = get_config(str(Path(__file__).parents[1] / "golden" / "tiny-lite" / "config.json"))
    state = random_state(config)
    del state["backbone.stem.norm.bias"]
    with pytest.raises(IncompleteConversion, match=r"1 missing from the file\n.*backbone\.stem\.norm\.bias"):
        WRITERS[container](state, config, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_stays_where_it_cannot_be_written(tmp_path: Path) -> None:
    config = get_config(str(Path(__file__).parents[1] / "golden" / "tiny-lite" / "config.json"))
    (tmp_path / "x.h5.manifest.json").mkdir()
    (tmp_path / "x.h5").write_bytes(b"before")
    with pytest.raises(OutputError, match=r"x\.h5\.manifest\.json: cannot be written \(it is a directory\)"):
        write_h5(random_state(config), config, tmp_path / "x.h5", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.h5", "x.h5.manifest.json"]
    assert (tmp_path / "x.h5").read_bytes() == b"before"
