"""Batches that no memory has place for: a line that names the batch, what it needs and what there is."""

import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from effconv.cli import main
from effconv.errors import EffconvError
from effconv.parity.benchmarks import inference, memory, training

TINY = Path(__file__).parents[2] / "golden" / "tiny-lite" / "config.json"


@pytest.mark.parametrize("words", [("inference", "--batch", "1"), ("training",)])
def test_a_batch_too_large_is_refused_before_it_is_made(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(*given: object) -> None:
        raise AssertionError("work was begun")

    for module in (inference, training):
        monkeypatch.setattr(module, "make_checkpoint", made)
    asked = ("--size", "512x640", "--batch", "10000000")
    result = CliRunner().invoke(main, ["bench", *words, "--model", str(TINY), *asked])
    assert result.exit_code == 2, result.output
    needed = r"a batch of 10000000 images of 512x640 needs 39321\.6 GB for the images alone"
    there = r"and [\d.]+ GB of memory are available"
    line = rf"effconv: {needed}, {there}; take a smaller batch or size \(--batch, --size\)\n"
    assert re.fullmatch(line, result.stderr), result.stderr


@pytest.mark.parametrize("known", [True, False])
def test_what_pytorch_says_of_memory_is_one_line(known: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "MEMINFO", memory.MEMINFO if known else tmp_path / "absent")
    more = r"a batch of 2 images of 8x9 needs .*000 bytes more at once"
    with pytest.raises(EffconvError, match=more) as caught, memory.batch_in_memory(2, (8, 9)):
        torch.empty(10**15)
    assert "\n" not in str(caught.value)
    assert ("are available" in str(caught.value)) is known
    refused = r"; 2\.00 GiB more at once were refused; "
    with pytest.raises(EffconvError, match=refused), memory.batch_in_memory(2, (8, 9)):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total")


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shape"), memory.batch_in_memory(2, (8, 9)):
        torch.zeros(4).reshape(3)
