"""Damaged and arbitrary bundles: every change is found and named, and nothing worse ever happens."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle_bytes import (
    OBJECT_GRAPH,
    ONE_SHARD,
    PLACES,
    flipped,
    header,
    index_of,
    load,
    open_bundle,
    refusal,
    repeatable,
    unseen,
    write,
)
from effconv.convert.formats.bundle import DTYPES, Bundle, Entry
from effconv.convert.formats.table import masked_crc32c, write_table
from effconv.errors import CheckpointError

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


# The top scopes of every official variable of d0.
SCOPES = ["box_net/", "class_net/", "efficientnet-b0/", "fpn_cells/", "resample_p6/", "global_step"]


@pytest.mark.shared
@pytest.mark.slow
def test_every_flip_and_cut_in_a_full_size_checkpoint_is_seen(full_size: Callable[[str], Path]) -> None:
    folder = full_size("efficientdet-d0")
    index = (folder / "model.index").read_bytes()
    data = bytearray((folder / f"model{ONE_SHARD}").read_bytes())
    draw = random.Random(6)
    survivors = []
    for _ in range(400):
        position, change = draw.randrange(len(data)), draw.randrange(1, 256)
        data[position] ^= change
        if (problem := unseen(index, data, SCOPES)) is not None:
            survivors.append((position, problem))
        data[position] ^= change
    for _ in range(150):
        damaged = flipped(index, draw.randrange(len(index)), draw.randrange(1, 256))
        if (problem := unseen(damaged, data, [])) is not None:
            survivors.append(("index", problem))
    for length in draw.sample(range(len(data)), 40):
        if (problem := unseen(index, bytes(data[:length]), SCOPES)) is not None:
            survivors.append((length, problem))
    for length in draw.sample(range(len(index)), 20):
        if (problem := unseen(index[:length], data, [])) is not None:
            survivors.append((length, problem))
    assert survivors == []
    Bundle(index, "whole", lambda suffix: data).check()  # put back, it is right again
