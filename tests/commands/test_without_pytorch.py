"""Converting with the packages that docs/convert.md names, and no others of those that effconv requires."""

import configparser
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

BLOCK = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from effconv.__main__ import run
run()
"""


def requirements(repository: Path) -> set[str]:
    """The packages that a full install brings."""
    settings = configparser.ConfigParser()
    settings.read(repository / "setup.cfg")
    return set(re.findall(r"(?m)^([\w-]+)", settings["options"]["install_requires"]))


def named(repository: Path) -> set[str]:
    """The packages that are said to be enough for converting."""
    section = (repository / "docs" / "convert.md").read_text().partition("## Without PyTorch")[2]
    (line,) = re.findall(r"(?m)^pip install -c constraints.txt ([\w -]+)$", section)
    return set(line.split())


@pytest.fixture
def program(repository: Path) -> str:
    """effconv, as Python code, where the packages that are not named are not installed."""
    others = requirements(repository) - named(repository)
    assert {"torch", "numba", "pillow"} <= others
    modules = {module for module, names in packages_distributions().items() if others & {n.lower() for n in names}}
    assert {"torch", "numba", "PIL", "pycocotools", "simplejpeg"} <= modules
    return BLOCK.format(absent=sorted(modules | {"tensorflow"}))


def run(program: str, folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """One command in a process of its own."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_converting_needs_the_named_packages_alone(program: str, repository: Path, tmp_path: Path) -> None:
    tiny = repository / "tests" / "golden" / "tiny-lite"
    for arguments in (
        ("tf2torch", "--model", tiny / "config.json", "--ckpt", tiny, "-o", "a.safetensors"),
        ("inspect", "a.safetensors"),
        ("identify", tiny),
        ("models",),
        ("torch2tf", "a.safetensors", "-o", "b/model"),
        ("convert", "a.safetensors", "--to", "tf", "--container", "h5", "-o", "a.h5"),
        ("convert", "a.safetensors", "--to", "effdet", "-o", "effdet.safetensors"),
        ("convert", "effdet.safetensors", "--model", tiny / "config.json", "-o", "c.safetensors"),
    ):
        done = run(program, tmp_path, *arguments)
        # Made-up weights are no released checkpoint: that is identify's answer, with status 1.
        assert done.returncode == (1 if "identify" in arguments else 0), (arguments, done.stderr)
        assert "not installed" not in done.stderr
    assert named(repository) <= requirements(repository)


def test_what_needs_pytorch_says_so_in_a_line(program: str, repository: Path, tmp_path: Path) -> None:
    shapes = repository / "examples" / "shapes"
    pickled = ("convert", shapes, "--model", shapes / "config.json", "-o", "a.pth")
    for arguments in (("demo", "-o", "demo"), pickled):
        done = run(program, tmp_path, *arguments)
        assert done.returncode == 2
        assert re.fullmatch(r"effconv: \w+ is not installed, .*pip install -c constraints.txt \..*\n", done.stderr)
    assert [each.name for each in tmp_path.rglob("*") if each.is_file()] == []
