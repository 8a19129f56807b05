"""TensorBundles: TensorFlow's bytes in, the same bytes out; shards, slices, types and strings."""

from pathlib import Path

import numpy as np
import pytest

from bundle_bytes import (
    BUNDLES,
    OBJECT_GRAPH,
    ONE_SHARD,
    flipped,
    header,
    index_of,
    load,
    open_bundle,
    proto,
    refusal,
    shards,
    write,
)
from effconv.convert.formats.bundle import DTYPES, Bundle, Entry, write_bundle
from effconv.convert.formats.table import masked_crc32c, write_table
from effconv.convert.formats.wire import bytes_field, varint_field, write_varint
from effconv.convert.layout import Array
from effconv.errors import CheckpointError


@pytest.mark.parametrize("name", BUNDLES)
def test_golden_bundles_pass_every_check(name: str) -> None:
    index, data = load(name)
    bundle = open_bundle(index, data)
    seen: list[tuple[int, int]] = []
    bundle.check(lambda done, total: seen.append((done, total)))
    assert len(seen) == len(bundle.entries) > 400
    assert seen == sorted(seen)
    assert seen[-1] == (len(data), len(data))
    assert list(bundle.entries) == sorted(bundle.entries, key=str.encode)


@pytest.mark.parametrize("name", BUNDLES[:3])
def test_written_back_byte_for_byte(name: str) -> None:
    index, data = load(name)
    bundle = open_bundle(index, data)
    tensors = {key: bundle.read(key) for key in reversed(bundle.entries)}
    assert write(tensors) == (index, data)


@pytest.mark.parametrize("name", BUNDLES[3:])
def test_string_tensor_is_refused_by_name(name: str) -> None:
    index, data = load(name)
    bundle = open_bundle(index, data)
    with pytest.raises(CheckpointError, match=f"variable {OBJECT_GRAPH} is string"):
        bundle.read(OBJECT_GRAPH)
    numbers = {key: bundle.read(key) for key in bundle.entries if key != OBJECT_GRAPH}
    again = open_bundle(*write(numbers))
    for key, array in numbers.items():
        assert (array.tobytes(), array.shape) == (again.read(key).tobytes(), again.read(key).shape)
        assert bundle.entries[key].crc == again.entries[key].crc


def test_arrays_are_read_only_views() -> None:
    index, data = load("tiny-swish/model")
    array = open_bundle(index, data).read("global_step")
    assert array.dtype == np.int64
    assert array.shape == ()
    assert not array.flags.writeable
    assert array.base is not None


# Strings


def string_bytes(*texts: bytes) -> tuple[bytes, int]:
    """(the bytes of a string tensor, its checksum), by TensorFlow's rules."""
    lengths = b"".join(len(text).to_bytes(4, "little") for text in texts)
    checksum = masked_crc32c(lengths).to_bytes(4, "little")
    stored = b"".join(write_varint(len(text)) for text in texts) + checksum + b"".join(texts)
    return stored, masked_crc32c(lengths + checksum + b"".join(texts))


def test_strings_are_checked() -> None:
    stored, crc = string_bytes(b"one", b"", b"x" * 300)
    entry = Entry("string", (3,), 0, 0, len(stored), crc)
    open_bundle(index_of({"text": entry}), stored).check()
    wrong = flipped(stored, 5, 1)  # a byte of the lengths' checksum
    whole = entry._replace(crc=masked_crc32c(*(n.to_bytes(4, "little") for n in (3, 0, 300)), wrong[4:]))
    assert "variable text: the checksum of its string lengths is wrong" in refusal(index_of({"text": whole}), wrong)
    assert "variable text: its strings take" in refusal(index_of({"text": entry._replace(shape=(2,))}), stored)
    assert "variable text: checksum" in refusal(index_of({"text": entry}), flipped(stored, len(stored) - 1, 1))


@pytest.mark.tf
def test_strings_written_by_tensorflow_are_checked(tmp_path: Path) -> None:
    import tensorflow as tf

    prefix = str(tmp_path / "model")
    texts = np.array([[b"", b"short", b"x" * 70_000], [b"\0\xff", "é".encode(), b"last"]], dtype=object)
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=["text"], shape_and_slices=[""], tensors=[tf.constant(texts)])
    index, data = Path(prefix + ".index").read_bytes(), Path(prefix + ONE_SHARD).read_bytes()
    bundle = open_bundle(index, data)
    bundle.check()
    assert bundle.entries["text"].shape == (2, 3)
    stored, crc = string_bytes(*texts.reshape(-1))
    assert (stored, crc) == (data, bundle.entries["text"].crc)


# Shards, slices, types


def three_shards() -> tuple[dict[str, Array], bytes, list[bytes]]:
    draw = np.random.default_rng(5)
    tensors: dict[str, Array] = {f"layer{i}/w": draw.standard_normal((i + 1, 3)).astype(np.float32) for i in range(7)}
    contents = [b"", b"", b""]
    entries = {}
    for number, (name, array) in enumerate(tensors.items()):
        shard = number % 3
        raw = array.tobytes()
        entries[name] = Entry("float32", array.shape, shard, len(contents[shard]), len(raw), masked_crc32c(raw))
        contents[shard] += raw
    return tensors, index_of(entries, 3), contents


def test_three_shards() -> None:
    tensors, index, contents = three_shards()
    bundle = open_bundle(index, *contents)
    assert bundle.shard_count == 3
    bundle.check()
    for name, array in tensors.items():
        assert np.array_equal(bundle.read(name), array), name
    for number in range(3):
        damaged = [flipped(content, 5, 1) if i == number else content for i, content in enumerate(contents)]
        assert f"variable layer{number}/w: checksum" in refusal(index, *damaged)


@pytest.mark.parametrize("missing", range(3))
def test_missing_shard_is_named(missing: int) -> None:
    _, index, contents = three_shards()
    available = shards(*contents)

    def open_shard(suffix: str) -> bytes:
        return available(suffix if suffix != f".data-0000{missing}-of-00003" else ".gone")

    bundle = Bundle(index, "model.index", open_shard)
    with pytest.raises(CheckpointError, match="missing shard"):
        bundle.check()
    with pytest.raises(CheckpointError, match="missing shard"):
        bundle.read(f"layer{missing}/w")
    assert bundle.read(f"layer{(missing + 1) % 3}/w").shape[1] == 3


def test_shard_numbers_must_be_below_the_count() -> None:
    entry = Entry("float32", (1,), 3, 0, 4, 0)
    assert "variable w is in shard 3 of 3" in refusal(index_of({"w": entry}, 3), b"", b"", b"")


@pytest.mark.parametrize("count", [0, 100_001, (1 << 64) - 1])
def test_absurd_shard_count_is_refused(count: int) -> None:
    assert f"header says {count} shards, expected 1..100000" in refusal(write_table([header(count)]))


def test_big_endian_is_refused() -> None:
    assert "big-endian" in refusal(write_table([header(endianness=1)]), b"")


def test_no_header_is_refused() -> None:
    assert "no bundle header" in refusal(write_table([]), b"")
    assert "no bundle header" in refusal(write_table([(b"name", b"")]), b"")
    assert "the bundle header is malformed (field 3 is cut off)" in refusal(write_table([(b"", header()[1][:-1])]), b"")


def test_malformed_entries_are_named() -> None:
    for key, message in ((b"name", b"\x0a"), (b"\xff\xfe", b""), (b"rank", bytes_field(2, varint_field(3, 1)))):
        assert f"entry {key!r} is malformed" in refusal(write_table([header(), (key, message)]), b"")
    deep = Entry("float32", (1,) * 33, 0, 0, 4, 0)
    assert "it has 33 axes, expected at most 32" in refusal(index_of({"w": deep}), b"1234")


def test_slices_are_refused_by_name() -> None:
    message = proto(Entry("float32", (4,), 0, 0, 16, 0), extra=bytes_field(7, b""))
    text = refusal(write_table([header(), (b"sliced/w", message)]), b"")
    assert "variable sliced/w is stored in slices (a partitioned variable)" in text
    text = refusal(write_table([header(), (b"\0sliced/w\0\1\1\2\x80\x82", b"")]), b"")
    assert "variable sliced/w is stored in slices (a partitioned variable)" in text


def test_size_must_fit_shape_and_type() -> None:
    entry = Entry("float32", (2, 3), 0, 0, 20, 0)
    assert "variable w: float32 [2, 3] cannot take 20 bytes" in refusal(index_of({"w": entry}), b"1" * 20)


@pytest.mark.parametrize("number", sorted(DTYPES))
def test_every_type_round_trips_or_is_refused_by_name(number: int) -> None:
    label, width = DTYPES[number]
    if label == "string":
        stored, crc = string_bytes(b"ab", b"c")
    else:
        stored = (b"\0\1" if label == "bool" else bytes(range(1, 2 * width + 1))) if width else b""
        crc = masked_crc32c(stored)
    index = index_of({"w": Entry(label, (2,), 0, 0, len(stored), crc)})
    bundle = open_bundle(index, stored)
    bundle.check()
    if label in ("string", "bfloat16"):
        with pytest.raises(CheckpointError, match=f"variable w is {label}, which is no array of numbers"):
            bundle.read("w")
    else:
        array = bundle.read("w")
        assert array.dtype == np.dtype(label)
        assert write({"w": array}) == (index, stored)
        swapped = array.astype(array.dtype.newbyteorder(">"))
        assert write({"w": swapped}) == (index, stored)


@pytest.mark.parametrize("number", [0, 11, 12, 13, 15, 16, 20, 21, 24, 25, 101, 1 << 40])
def test_unknown_types_are_refused_by_name(number: int) -> None:
    message = proto(Entry("float32", (1,), 0, 0, 4, 0), number)
    text = refusal(write_table([header(), (b"quantised/w", message)]), b"1234")
    assert f"variable quantised/w has data type number {number}, which is not known" in text


@pytest.mark.parametrize(
    "array", [np.array(["text"]), np.array([None]), np.zeros(1, "longdouble"), np.zeros(1, "M8[s]")]
)
def test_writer_refuses_other_types_by_name(array: Array) -> None:
    with pytest.raises(CheckpointError, match=f"variable odd/w has data type {array.dtype}".replace("[", r"\[")):
        write_bundle({"odd/w": array})


def test_scalars_and_empty_tensors() -> None:
    tensors: dict[str, Array] = {
        "empty": np.zeros((0,), np.float32),
        "empty/axes": np.zeros((2, 0, 3), np.float64),
        "scalar": np.array(-5, np.int64),
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "é": np.array(2.5, np.float16),
    }
    index, data = write(tensors)
    bundle = open_bundle(index, data)
    bundle.check()
    assert list(bundle.entries) == sorted(tensors, key=str.encode)
    for name, array in tensors.items():
        assert bundle.read(name).shape == array.shape, name
        assert bundle.read(name).tobytes() == array.tobytes(), name
    assert open_bundle(*write({})).entries == {}
    assert open_bundle(*write({"empty": tensors["empty"]})).read("empty").shape == (0,)


# Bytes of the data file that no variable, or more than one, owns


def test_overlapping_variables_are_refused() -> None:
    data = bytes(range(1, 13))
    first = Entry("uint8", (8,), 0, 0, 8, masked_crc32c(data[:8]))
    second = Entry("uint8", (8,), 0, 4, 8, masked_crc32c(data[4:]))
    assert "variable b overlaps the one before it" in refusal(index_of({"a": first, "b": second}), data)
    assert "variable b overlaps the one before it" in refusal(index_of({"a": first, "b": first}), data[:8])


@pytest.mark.parametrize("place", ["before", "between", "after"])
def test_gaps_may_hold_only_zeros(place: str) -> None:
    """Zero bytes between tensors are alignment; anything else is not TensorFlow's."""
    gaps = [60 if place == name else 0 for name in ("before", "between", "after")]
    for fill, accepted in ((b"\0", True), (b"\1", False)):
        tail = b"\0" * 59 + fill
        data = tail[: gaps[0]] + b"12345678" + tail[: gaps[1]] + b"abcd" + tail[: gaps[2]]
        entries = {
            "a": Entry("uint8", (8,), 0, gaps[0], 8, masked_crc32c(b"12345678")),
            "b": Entry("uint8", (4,), 0, gaps[0] + 8 + gaps[1], 4, masked_crc32c(b"abcd")),
        }
        index = index_of(entries)
        if accepted:
            open_bundle(index, data).check()
        else:
            owner = {"before": "before a", "between": "before b", "after": "after the last variable"}[place]
            message = refusal(index, data)
            assert f"{owner} belong to no variable" in message
            assert "shard 0: bytes" in message
