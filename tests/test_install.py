"""The built package: what a user without a checkout gets."""

import configparser
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tracked files alone."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    copied = subprocess.run(
        ["git", "-C", str(repository), "checkout-index", "--all", f"--prefix={source}/"],
        capture_output=True,
        check=False,
    )
    if copied.returncode != 0:
        pytest.skip("not a git checkout, so there is no list of files to build from")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    if "No matching distribution found for setuptools" in done.stderr:
        pytest.skip("no package index is reachable, so setuptools cannot be had to build with")
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("effconv-*.whl")
    return found


@pytest.mark.slow
def test_wheel_holds_every_module_and_data_file_and_no_tests(wheel: Path, repository: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    parts = ("commands", "convert", "effdet_torch", "parity")
    modules = [*repository.glob("*.py"), *(file for part in parts for file in (repository / part).rglob("*.py"))]
    assets = [*(repository / "parity" / "rendering" / "assets").iterdir()]
    assert len(assets) > 3
    for file in (*modules, *assets):
        assert f"effconv/{file.relative_to(repository)}" in names
    for data in [*(repository / "results").glob("*/*.json"), *(repository / "examples" / "shapes").iterdir()]:
        assert f"effconv/{data.relative_to(repository)}" in names
    assert not [name for name in names if name.startswith("effconv/tests/") and name.endswith(".py")]
    assert not [name for name in names if "constraints" in name or "Makefile" in name]


@pytest.mark.slow
def test_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    environment = os.environ | {"PYTHONPATH": str(site)}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "effconv.cli", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = [sys.executable, "-c", "import effconv; print(effconv.__file__)"]
    found = subprocess.run(where, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment).stdout
    assert found.strip() == str(site / "effconv" / "__init__.py")
    assert "nothing changed on the way" in run("demo")
    assert "efficientdet-d7x" in run("models")


def test_what_errors_advise_to_install_is_what_the_extras_name(repository: Path) -> None:
    """By the packages' own names: effconv itself is installed from a clone, and its name on an index is not ours."""
    settings = configparser.ConfigParser()
    settings.read(repository / "setup.cfg")
    extras = [re.findall(r"^([\w-]+)", text, re.MULTILINE) for text in settings["options.extras_require"].values()]
    known = {package for packages in extras for package in packages}
    advised = set()
    for part in ("commands", "convert", "effdet_torch", "parity"):
        for file in (repository / part).rglob("*.py"):
            for words in re.findall(r"pip install ([\w \[\]'-]+)", file.read_text()):
                assert "effconv" not in words, file
                advised |= set(words.split()) & known
    assert advised >= {"tensorflow", "matplotlib", "onnx", "onnxscript", "onnxruntime", "openvino"}


def test_make_gives_pip_the_options_it_is_asked_to(repository: Path, tmp_path: Path) -> None:
    """PyTorch's own index, say, as the README has it; `make -n` runs nothing."""
    option = "--extra-index-url=https://example.org/cpu"
    for target in ("demo", "test"):
        command = ["make", "-n", "-C", str(repository), target, f"VENV={tmp_path}", f"PIP_OPTIONS={option}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        lines = [line for line in done.stdout.splitlines() if "pip install" in line]
        assert lines
        assert all(option in line for line in lines)
