"""Recorded traces that are damaged, hostile or of another kind: refused by name, or read as they were written."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effconv.effdet_torch.config import ConfigError
from effconv.errors import EffconvError
from effconv.parity.traces.recording import TraceError, is_recording, record
from small_traces import Small, array_bytes, everything, members, peak_memory, refusal, with_header, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A trace with float64."""
    record(Small(), tmp_path / "trace.npz", with_float64=True)
    return tmp_path / "trace.npz"


def test_a_truncated_trace_is_refused(path: Path, tmp_path: Path) -> None:
    content = path.read_bytes()
    cut = tmp_path / "cut.npz"
    for length in [*range(0, len(content), 97), len(content) - 1]:
        cut.write_bytes(content[:length])
        refusal(cut)
        with pytest.raises(TraceError, match="not a readable trace"):
            is_recording(cut)


def test_an_array_that_is_quoted_as_a_name_is_cut_short(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[27] = 8  # the second byte of the first member's length of name
    path.write_bytes(content)
    assert len(refusal(path)) < len(str(path)) + 350


def test_a_flipped_byte_is_noticed_or_changes_nothing(path: Path, tmp_path: Path) -> None:
    content, expected = path.read_bytes(), everything(path)
    flipped = tmp_path / "flipped.npz"
    refused = 0
    for place in range(0, len(content), 11):
        for bits in (0x01, 0x80):
            flipped.write_bytes(content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :])
            try:
                found = everything(flipped)
            except EffconvError:
                refused += 1
            else:
                assert found == expected, place
    assert refused > 0.8 * 2 * len(content) / 11


def npy(header: str, payload: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """An array file with this header, whatever it says."""
    text = header.encode("latin1").ljust(117) + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + payload


def described(dtype: str, shape: str) -> str:
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}"


HOSTILE_ARRAYS = {
    "another array format": npy(described("'<f4'", "(2,)"), bytes(8), b"\x02\x00"),
    "a huge shape": npy(described("'<f4'", "(1000000000000, 1000)"), bytes(8)),
    "values without size": npy(described("'|S0'", "(1000000000000,)")),
    "too few values": npy(described("'<f4'", "(2,)"), bytes(7)),
    "too many values": npy(described("'<f4'", "(2,)"), bytes(12)),
    "negative sizes": npy(described("'<f4'", "(-1, -2)"), bytes(8)),
    "columns first": npy(described("'<f4'", "(2,)").replace("False", "True"), bytes(8)),
    "float64": array_bytes(np.zeros(3)),
    "big-endian": array_bytes(np.zeros(3, ">f4")),
    "a record": npy(described("[('a', '<f4')]", "(2,)"), bytes(8)),
    "texts": array_bytes(np.array(["a", "b"])),
    "a pickle": npy(described("'|O'", "(1,)"), b"cos\nsystem\n"),
    "an open bracket": npy("{'descr': '<f4', 'shape': ("),
    "an open quote": npy("'''"),
    "brackets": npy("(" * 100),
    "half a type": npy(described("('<f4',)", "(2,)"), bytes(8)),
    "the syntax of Python 2": npy(described("'<f4'", "(2L,)"), bytes(8)),
    "no array": b"text",
    "nothing": b"",
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("member", ["float32/b", "local/b", "images", "header"])
@pytest.mark.parametrize("name", HOSTILE_ARRAYS)
def test_a_hostile_array_is_refused(name: str, member: str, path: Path) -> None:
    write(path, {**members(path), f"{member}.npy": HOSTILE_ARRAYS[name]})
    assert "record it again with `effconv trace`" in refusal(path)


def test_no_memory_is_taken_for_what_is_only_claimed(path: Path) -> None:
    content = members(path)
    huge = npy(described("'<f4'", "(536870880,)"), bytes(8))  # with its header, 2 GiB
    for array in (HOSTILE_ARRAYS["a huge shape"], HOSTILE_ARRAYS["values without size"], huge):
        with zipfile.ZipFile(write(path, {**content, "float32/a.npy": array}), "a") as archive:
            if array is huge:  # the archive's directory says so too
                archive.getinfo("float32/a.npy").file_size = 1 << 31
                archive.getinfo("float32/a.npy").compress_size = 1 << 31
                archive.writestr("more", b"")  # so that the directory is written again
        assert peak_memory(lambda: refusal(path)) < 1 << 20


def test_a_member_shorter_than_it_says_is_refused(path: Path) -> None:
    """Also where its checksum is that of the part that is there."""
    content = members(path)
    with zipfile.ZipFile(write(path, content), "a") as archive:
        information = archive.getinfo("float32/b.npy")
        information.compress_size -= 4
        information.CRC = zlib.crc32(content["float32/b.npy"][:-4])
        archive.writestr("more", b"")
    assert "float32/b cannot be read (cut short or too long)" in refusal(path)


def test_missing_compressed_and_mismatched_members_are_refused(path: Path) -> None:
    content = members(path)
    for name in content:
        write(path, {other: data for other, data in content.items() if other != name})
        assert name.removesuffix(".npy") in refusal(path)
    write(path, content, "float32/b.npy")
    assert "compressed, or larger than the file" in refusal(path)
    other = array_bytes(np.zeros((1, 3, 4, 1), np.float32))
    write(path, {**content, "accumulated/b.npy": other})
    assert "accumulated/b and float32/b differ in shape" in refusal(path)


@pytest.mark.parametrize("shape", [(3, 4, 6), (1, 4, 6, 3), (0, 3, 4, 6), (1, 3, 0, 6)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...], path: Path) -> None:
    write(path, {**members(path), "images.npy": array_bytes(np.zeros(shape, np.float32))})
    assert "expected images (B, 3, H, W)" in refusal(path)


FIELDS = ["format", "config", "source", "kinds", "exact", "float64", "keys", "required", "samples", "noise"]
VALUES = [None, 3, "x", [], {}, [[1]], [None], {"b": 1}, {"b": [1]}, {"b": {"local": "1"}}, {"b": [[0, 2], 3]}, ...]


@pytest.mark.parametrize("field", FIELDS)
def test_a_header_of_other_types_is_refused_or_read(field: str, path: Path) -> None:
    record(Small(), path)  # without float64, so that every field is used
    refused = 0
    content = path.read_bytes()
    for value in VALUES:
        path.write_bytes(content)
        with_header(path, **{field: value})
        try:
            everything(path)
        except (TraceError, ConfigError):
            refused += 1
    assert refused >= 5
    with_header(path, **{field: ...})
    refusal(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e-9])
def test_noise_that_no_run_has_is_refused(value: float, path: Path) -> None:
    """An infinite noise would let every difference pass."""
    with_header(path, noise={"b": {"local": value}})
    refusal(path)


@pytest.mark.parametrize("sample", [[[1, 2], 0], [[1, -2], 3], [[1, 2], 1.5], [[1, "2"], 3]])
def test_samples_that_nothing_can_be_taken_by_are_refused(sample: list[Any], path: Path) -> None:
    with_header(path, samples={"b": sample})
    assert "another type than expected" in refusal(path)


@pytest.mark.parametrize("kind", ["tensorflow", "torch", "graph", "made up"])
def test_only_the_official_code_s_own_records_are_samples(kind: str, path: Path) -> None:
    # Every thousandth value of a layer would hide all others.
    with_header(path, samples={"b": [[1, 2, 2, 3000], 1000]}, source={"kind": kind, "label": "x"})
    assert "a sample of b, where all of it was expected" in refusal(path)


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 100000, '{"format": 9' + "9" * 5000 + "}", "3"])
def test_a_header_that_is_no_record_is_refused(text: str, path: Path) -> None:
    write(path, {**members(path), "header.npy": array_bytes(np.array(text))})
    assert "not a trace of effconv's" in refusal(path)


def test_what_is_no_trace_is_refused(path: Path, tmp_path: Path) -> None:
    with_header(path, format="effconv trace 2")
    assert "expected 'effconv trace 1'" in refusal(path)
    for other in (tmp_path, tmp_path / "absent.npz"):
        assert "not a readable trace" in refusal(other)
    # A name that is not the text its flag says it is.
    content = write(path, {**members(path), "\u00e9": b""}).read_bytes()
    path.write_bytes(content.replace("\u00e9".encode(), b"\xff\xff"))
    refusal(path)
    with pytest.raises(TraceError):
        is_recording(path)
