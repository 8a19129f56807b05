"""TensorBundles: TensorFlow's bytes in, the same bytes out; damage is found, named, and never anything worse."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effconv.convert.bundle import DTYPES, Bundle, Entry, shard_suffix, write_bundle
from effconv.convert.layout import Array
from effconv.convert.table import masked_crc32c, read_table, write_table
from effconv.convert.wire import bytes_field, fixed32_field, varint_field, write_varint
from effconv.errors import CheckpointError

GOLDEN = Path(__file__).parent / "golden"
TINY = ("tiny-swish", "tiny-sum8", "tiny-lite")
BUNDLES = [*(f"{name}/model" for name in TINY), *(f"{name}/keras/ckpt" for name in TINY)]
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
ONE_SHARD = shard_suffix(0, 1)
PLACES = ("block", "footer", "header", "shard")


def repeatable(examples: int) -> settings:
    """The same examples on every machine, and no deadline: a slow one is not a wrong one."""
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


def load(name: str) -> tuple[bytes, bytes]:
    """(index, data) of a golden checkpoint."""
    return (GOLDEN / f"{name}.index").read_bytes(), (GOLDEN / f"{name}{ONE_SHARD}").read_bytes()


def shards(*contents: bytes) -> Callable[[str], bytes]:
    """What opens the given shards, and refuses others as a directory would."""
    files = {shard_suffix(number, len(contents)): content for number, content in enumerate(contents)}

    def open_shard(suffix: str) -> bytes:
        if suffix not in files:
            raise CheckpointError(f"model{suffix}: missing shard")
        return files[suffix]

    return open_shard


def open_bundle(index: bytes, *contents: bytes, verify: bool = True) -> Bundle:
    return Bundle(index, "model.index", shards(*contents), verify=verify)


def write(tensors: Mapping[str, Array]) -> tuple[bytes, bytes]:
    index, arrays = write_bundle(tensors)
    return index, b"".join(array.tobytes() for array in arrays)


def header(count: int = 1, endianness: int = 0) -> tuple[bytes, bytes]:
    return b"", varint_field(1, count) + varint_field(2, endianness) + bytes_field(3, varint_field(1, 1))


def proto(entry: Entry, number: int | None = None, extra: bytes = b"") -> bytes:
    """A BundleEntryProto, as TensorFlow orders its fields."""
    numbers = {name: key for key, (name, _) in DTYPES.items()}
    dimensions = b"".join(bytes_field(2, varint_field(1, size)) for size in entry.shape)
    message = varint_field(1, numbers[entry.dtype] if number is None else number) + bytes_field(2, dimensions)
    message += varint_field(3, entry.shard) + varint_field(4, entry.offset) + varint_field(5, entry.size)
    return message + fixed32_field(6, entry.crc) + extra


def index_of(entries: Mapping[str, Entry], count: int = 1) -> bytes:
    return write_table([header(count), *((name.encode(), proto(entries[name])) for name in sorted(entries))])


def refusal(index: bytes, *contents: bytes) -> str:
    """The message with which opening or checking a bundle fails."""
    with pytest.raises(CheckpointError) as caught:
        open_bundle(index, *contents).check()
    return str(caught.value)


def unseen(index: bytes, data: bytes, names: list[str]) -> str | None:
    """None when the damage raises CheckpointError and names a variable or a place, else what happened instead."""
    try:
        open_bundle(index, data).check()
    except CheckpointError as error:
        message = str(error)
        named = any(place in message for place in PLACES) or any(f"variable {name}" in message for name in names)
        return None if named else f"names nothing: {message}"
    return "accepted"


def flipped(content: bytes, position: int, change: int) -> bytes:
    out = bytearray(content)
    out[position] ^= change
    return bytes(out)


# Reading and writing what TensorFlow wrote


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


# Damage


def test_every_flip_and_cut_in_a_real_checkpoint_is_seen() -> None:
    index, data = load("tiny-swish/model")
    names = list(open_bundle(index, data).entries)
    draw = random.Random(20)
    survivors = []
    for number in range(640):
        change = draw.randrange(1, 256)
        if number % 2:
            position = draw.randrange(len(index))
            outcome = unseen(flipped(index, position, change), data, names)
        else:
            position = draw.randrange(len(data))
            outcome = unseen(index, flipped(data, position, change), names)
        if outcome:
            survivors.append((("data", "index")[number % 2], position, change, outcome))
    for length in [0, 1, len(index) - 1, *(draw.randrange(len(index)) for _ in range(60))]:
        if outcome := unseen(index[:length], data, names):
            survivors.append(("index cut", length, 0, outcome))
    for length in [0, 1, len(data) - 1, *(draw.randrange(len(data)) for _ in range(60))]:
        if outcome := unseen(index, data[:length], names):
            survivors.append(("data cut", length, 0, outcome))
    for extra in (b"\0", b"x", b"\0" * 48, index[-48:], draw.randbytes(1000)):
        if outcome := unseen(index + extra, data, names):
            survivors.append(("index extended", len(extra), 0, outcome))
    for extra in (b"x", b"\0\0\1", b"\0" * 100_000 + b"\1", draw.randbytes(1000)):
        if outcome := unseen(index, data + extra, names):
            survivors.append(("data extended", len(extra), 0, outcome))
    assert survivors == []


def test_the_damaged_variable_is_the_one_named() -> None:
    index, data = load("tiny-swish/model")
    bundle = open_bundle(index, data)
    for name in list(bundle.entries)[::97]:
        entry = bundle.entries[name]
        found = masked_crc32c(flipped(data, entry.offset, 1)[entry.offset : entry.offset + entry.size])
        message = refusal(index, flipped(data, entry.offset, 1))
        assert f"variable {name}: checksum {entry.crc:08x} expected, {found:08x} found" in message
        assert "get it again" in message
    last = max(bundle.entries, key=lambda name: bundle.entries[name].offset)
    assert f"variable {last} ends at byte {len(data)} of shard 0, which has {len(data) - 1}" in refusal(
        index, data[:-1]
    )


def test_swapped_data_of_another_checkpoint_is_seen() -> None:
    index, data = load("tiny-swish/model")
    assert "variable " in refusal(index, load("tiny-lite/model")[1])
    assert "of another checkpoint" in refusal(index, data + b"more")


def test_every_flip_around_a_string_tensor_is_seen() -> None:
    index, data = load("tiny-lite/keras/ckpt")
    entries = open_bundle(index, data).entries
    graph = entries[OBJECT_GRAPH]
    draw = random.Random(7)
    # Its lengths and their checksum, byte by byte; then anywhere in it, in the rest of the data, in the index.
    places = [(True, graph.offset + position) for position in range(16)]
    places += [(True, draw.randrange(graph.offset, graph.offset + graph.size)) for _ in range(80)]
    places += [(True, draw.randrange(len(data))) for _ in range(60)]
    places += [(False, draw.randrange(len(index))) for _ in range(60)]
    survivors = []
    for in_data, position in places:
        change = draw.randrange(1, 256)
        damaged = (index, flipped(data, position, change)) if in_data else (flipped(index, position, change), data)
        if outcome := unseen(*damaged, list(entries)):
            survivors.append((in_data, position, change, outcome))
    assert survivors == []


@pytest.mark.shared
def test_every_flip_in_a_released_index_is_seen(shared: Path) -> None:
    index = (shared / "facts" / "checkpoint_indexes" / "raw" / "efficientdet-d0.coco2.model.index").read_bytes()
    assert len(open_bundle(index).entries) > 800
    draw = random.Random(3)
    survivors = []
    for position in [*range(len(index) - 48, len(index)), *(draw.randrange(len(index)) for _ in range(300))]:
        change = draw.randrange(1, 256)
        try:
            open_bundle(flipped(index, position, change))
            survivors.append((position, change, "accepted"))
        except CheckpointError as error:
            if not any(place in str(error) for place in PLACES):
                survivors.append((position, change, str(error)))
    assert survivors == []


# Arbitrary bytes: nothing but CheckpointError, ever


def read_everything(index: bytes, *contents: bytes, verify: bool) -> None:
    """Open, read every entry and check, each of which may refuse; anything but CheckpointError fails the test."""
    try:
        bundle = open_bundle(index, *contents, verify=verify)
    except CheckpointError:
        return
    for name, entry in bundle.entries.items():
        try:
            array = bundle.read(name)
        except CheckpointError:
            continue
        assert array.shape == entry.shape
        assert array.nbytes == entry.size <= sum(map(len, contents))
    try:
        bundle.check()
    except CheckpointError:
        return


SMALL_INDEX, SMALL_DATA = write(
    {
        "a/kernel": np.arange(12, dtype=np.float32).reshape(1, 3, 4),
        "a/empty": np.zeros((3, 0), np.int64),
        "b/step": np.array(7, np.int64),
        "b/flag": np.array([True, False]),
    }
)


@repeatable(300)
@given(index=st.binary(max_size=400), data=st.binary(max_size=64), verify=st.booleans())
def test_arbitrary_bytes_as_index(index: bytes, data: bytes, verify: bool) -> None:
    read_everything(index, data, verify=verify)
    read_everything(index + SMALL_INDEX[-48:], data, verify=verify)


@repeatable(600)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(SMALL_INDEX) - 1), st.binary(max_size=12), st.integers(0, 12)), min_size=1
    ),
    verify=st.booleans(),
)
def test_edited_index(edits: list[tuple[int, bytes, int]], verify: bool) -> None:
    index = SMALL_INDEX
    for position, replacement, length in edits:
        index = index[:position] + replacement + index[position + length :]
    read_everything(index, SMALL_DATA, verify=verify)


@repeatable(600)
@given(edits=st.lists(st.tuples(st.integers(0, 200), st.integers(1, 255)), min_size=1, max_size=6))
def test_edited_blocks_of_equal_length(edits: list[tuple[int, int]]) -> None:
    """Without checksums, wrong numbers reach the reader of entries: shapes, sizes, offsets, shards."""
    index = SMALL_INDEX
    for position, change in edits:
        index = flipped(index, position, change)
    read_everything(index, SMALL_DATA, verify=False)


@repeatable(300)
@given(messages=st.lists(st.binary(max_size=40), max_size=4), data=st.binary(max_size=40))
def test_arbitrary_bytes_as_entries(messages: list[bytes], data: bytes) -> None:
    """A table that is right, of entries that are anything."""
    items = [(f"{number}".encode(), message) for number, message in enumerate(messages)]
    read_everything(write_table([header(), *items]), data, verify=True)


NUMBERS = st.one_of(st.integers(0, 70), st.sampled_from([1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]))


@repeatable(600)
@given(
    fields=st.tuples(st.sampled_from(sorted(DTYPES)), st.lists(NUMBERS, max_size=4), NUMBERS, NUMBERS, NUMBERS),
    data=st.binary(max_size=70),
)
def test_arbitrary_numbers_in_entries(fields: tuple[int, list[int], int, int, int], data: bytes) -> None:
    dtype, shape, shard, offset, size = fields
    for claimed in (size, int(np.prod([1, *shape], dtype=object)) * DTYPES[dtype][1]):
        entry = Entry(DTYPES[dtype][0], tuple(shape), shard % 3, offset, claimed % (1 << 64), 0)
        read_everything(index_of({"name": entry}), data, verify=True)


@repeatable(200)
@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_as_data(data: bytes) -> None:
    read_everything(SMALL_INDEX, data, verify=True)
    if data != SMALL_DATA:
        refusal(SMALL_INDEX, data)


@repeatable(300)
@given(data=st.binary(max_size=80), count=st.sampled_from([0, 1, 2, 9, 1 << 40, (1 << 64) - 1]), crc=st.integers(0, 9))
def test_arbitrary_bytes_as_strings(data: bytes, count: int, crc: int) -> None:
    index = index_of({"text": Entry("string", (count,), 0, 0, len(data), crc)})
    message = refusal(index, data)
    assert "variable text: " in message or "entry b'text' is malformed (its shape" in message


@pytest.mark.parametrize("shape", [(0, 1 << 63), (0, (1 << 64) - 1), (0, 1 << 40, 1 << 40), (1 << 62, 0, 1 << 62)])
def test_impossible_empty_shapes_are_refused(shape: tuple[int, ...]) -> None:
    """Their product is 0, which fits the size, but no array can have them."""
    message = refusal(index_of({"name": Entry("float32", shape, 0, 0, 0, masked_crc32c(b""))}), b"")
    assert "entry b'name' is malformed (its shape" in message


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


# TensorFlow itself


def save(prefix: Path, tensors: Mapping[str, Array], slices: list[str] | None = None) -> None:
    import tensorflow as tf

    names = list(tensors)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=slices or [""] * len(names),
        tensors=[tf.constant(tensors[name]) for name in names],
    )


def mixed_tensors() -> dict[str, Array]:
    draw = np.random.default_rng(11)
    tensors: dict[str, Array] = {
        f"scope/{label}": draw.integers(0, 2, (3, 5)).astype(label)
        for label, _ in DTYPES.values()
        if label not in ("string", "bfloat16")
    }
    tensors |= {f"empty/{axes}": np.zeros((0, axes), np.float32) for axes in range(3)}
    tensors |= {f"scope_{i}/w": draw.standard_normal((i, 2)).astype(np.float32) for i in range(40)}
    bits = np.array([0x7FC00001, 0xFF800000, 0x80000000, 1], np.uint32)  # NaN payload, -inf, -0, a denormal
    return tensors | {"scalar": np.array(3, np.int64), "special": bits.view(np.float32), "é/\U0001f600": bits}


@pytest.mark.tf
def test_tensorflow_reads_what_is_written_and_writes_the_same_bytes(tmp_path: Path) -> None:
    import tensorflow as tf

    tensors = mixed_tensors()
    index, data = write(tensors)
    (tmp_path / "ours.index").write_bytes(index)
    (tmp_path / f"ours{ONE_SHARD}").write_bytes(data)
    reader = tf.train.load_checkpoint(str(tmp_path / "ours"))
    assert set(reader.get_variable_to_shape_map()) == set(tensors)
    for name, array in tensors.items():
        theirs = np.asarray(reader.get_tensor(name))
        assert (theirs.dtype, theirs.shape, theirs.tobytes()) == (array.dtype, array.shape, array.tobytes()), name
    # SaveV2 keeps the order it is given; TensorFlow's savers give it sorted names.
    save(tmp_path / "theirs", {name: tensors[name] for name in sorted(tensors)})
    assert (tmp_path / "theirs.index").read_bytes() == index
    assert (tmp_path / f"theirs{ONE_SHARD}").read_bytes() == data


@pytest.mark.tf
@pytest.mark.parametrize("name", TINY)
def test_tensorflow_writes_the_golden_bytes_again(name: str, tmp_path: Path) -> None:
    index, data = load(f"{name}/model")
    bundle = open_bundle(index, data)
    save(tmp_path / "theirs", {key: bundle.read(key) for key in bundle.entries})
    assert (tmp_path / "theirs.index").read_bytes() == index
    assert (tmp_path / f"theirs{ONE_SHARD}").read_bytes() == data


@pytest.mark.tf
def test_shards_merged_by_tensorflow(tmp_path: Path) -> None:
    import tensorflow as tf

    tensors = mixed_tensors()
    names = sorted(tensors)
    prefixes = []
    for shard in range(3):
        prefix = tmp_path / f"part{shard}"
        save(prefix, {name: tensors[name] for name in names[shard::3]})
        prefixes.append(str(prefix))
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=prefixes, destination_prefix=str(tmp_path / "merged"))
    contents = [(tmp_path / f"merged{shard_suffix(shard, 3)}").read_bytes() for shard in range(3)]
    bundle = open_bundle((tmp_path / "merged.index").read_bytes(), *contents)
    bundle.check()
    assert bundle.shard_count == 3
    assert list(bundle.entries) == sorted(names, key=str.encode)
    for name, array in tensors.items():
        assert bundle.read(name).tobytes() == array.tobytes(), name


@pytest.mark.tf
def test_slices_written_by_tensorflow_are_refused_by_name(tmp_path: Path) -> None:
    half = np.arange(6, dtype=np.float32).reshape(2, 3)
    save(tmp_path / "model", {"partitioned/w": half}, ["4 3 0,2:-"])
    index = (tmp_path / "model.index").read_bytes()
    # Two entries: the variable's, and under a key that is no name, the slice's.
    assert sum(b"partitioned/w" in key for key in read_table(index, "model.index")) == 2
    with pytest.raises(CheckpointError, match="variable partitioned/w is stored in slices"):
        open_bundle(index, half.tobytes())


@pytest.mark.tf
def test_bfloat16_written_by_tensorflow_is_checked_and_refused_by_name(tmp_path: Path) -> None:
    import tensorflow as tf

    value = tf.cast(tf.constant([1.5, -2.0]), tf.bfloat16).numpy()
    save(tmp_path / "model", {"half/w": value})
    bundle = open_bundle((tmp_path / "model.index").read_bytes(), (tmp_path / f"model{ONE_SHARD}").read_bytes())
    bundle.check()
    assert bundle.entries["half/w"].dtype == "bfloat16"
    with pytest.raises(CheckpointError, match="variable half/w is bfloat16"):
        bundle.read("half/w")
