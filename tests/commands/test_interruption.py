"""Ctrl-C at any moment: a line or none, and the exit status 130."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from effconv.cli import main

# Runs `effconv WORDS` as its entry point does, and interrupts it when it begins to import MODULE, which aborts the
# process if that raises an exception within it. PyTorch's own imports do.
PROGRAM = """
import os, signal, sys, time
module, sys.argv[1:] = sys.argv[1], sys.argv[2:]

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.15)
            except KeyboardInterrupt:
                os.abort()

sys.meta_path.insert(0, Interrupting())
from effconv.__main__ import run
run()
"""


@pytest.mark.parametrize(
    ("module", "printed"),
    [
        ("click", ""),
        ("effconv.commands.evaluate", ""),
        ("effconv.convert.inspection", "\neffconv: interrupted\n"),  # within the command, which ends after the import
    ],
)
def test_an_interrupted_import(module: str, printed: str) -> None:
    command = [sys.executable, "-c", PROGRAM, module, "models"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", printed)


def test_an_interruption_that_is_ignored_stays_so() -> None:
    """As a shell starts what runs in the background of a script."""
    program = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + PROGRAM
    command = [sys.executable, "-c", program, "click", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interrupted_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("effconv.convert.zoo.find_release", interrupted)
    result = CliRunner().invoke(main, ["download", "--model", "d0"])
    assert (result.exit_code, result.stderr.strip()) == (130, "effconv: interrupted")
