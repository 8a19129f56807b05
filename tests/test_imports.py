"""What each part of the package may import: checked in fresh interpreters and in the source."""

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

FORBIDDEN = {
    "import effconv": ("torch", "tensorflow", "numpy", "rich", "click"),
    "import effconv.effdet_torch.config": ("torch", "tensorflow", "numpy"),
    "import effconv.effdet_torch.model": ("tensorflow",),
    "import effconv.convert.conversion, effconv.convert.zoo, effconv.convert.inspection": (
        "torch",
        "tensorflow",
        "rich",
    ),
    "import effconv.parity.comparison.compare, effconv.parity.verification.demo, effconv.parity.comparison.report": (
        "tensorflow",
    ),
    "import effconv.parity.reference.network, effconv.parity.reference.training": ("tensorflow", "torch"),
    "import effconv.parity.comparison.layerwise, effconv.parity.traces.graph, effconv.parity.comparison.page": (
        "tensorflow",
    ),
    "import effconv.parity.benchmarks.conversion": ("torch", "tensorflow", "numpy"),
    # What is measured in a process of its own: another library's memory would count as its.
    "import effconv.parity.benchmarks.programs.report_peak": ("torch", "tensorflow", "numpy", "effconv.errors"),
    "import effconv.parity.benchmarks.programs.read_all": ("torch", "tensorflow", "rich", "h5py"),
    "import effconv.parity.benchmarks.programs.evaluate_detections": ("torch", "tensorflow", "rich"),
    "import effconv.parity.benchmarks.programs.tensorflow_reader": ("torch", "tensorflow"),
    "import effconv; effconv.load": ("torch", "tensorflow"),
    "import effconv; effconv.preprocess": ("torch", "tensorflow", "PIL", "simplejpeg"),
    "from effconv.cli import main; main(['--help'], standalone_mode=False)": (
        "torch",
        "tensorflow",
        "numpy",
        "rich",
    ),
    "from effconv.cli import main; main(['tf2torch', '--model', r'{tiny}/config.json', '--ckpt', r'{tiny}', '-o', "
    "r'{tmp}/x.safetensors'], standalone_mode=False)": (
        "torch",
        "tensorflow",
        "rich",
        "h5py",
    ),
}


@pytest.mark.parametrize("code", FORBIDDEN)
def test_fresh_interpreter_does_not_import(code: str, repository: Path, tmp_path: Path) -> None:
    code_run = code.format(tiny=repository / "tests" / "golden" / "tiny-lite", tmp=tmp_path)
    report = f"{code_run}\nimport sys\nprint([name for name in {FORBIDDEN[code]!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip().splitlines()[-1:]) == (0, ["[]"]), done.stderr


RANKS = {"effdet_torch": 0, "convert": 1, "loading": 2, "saving": 2, "parity": 3, "commands": 4, "cli": 5}


def imported_parts(path: Path, repository: Path) -> set[str]:
    """The parts of effconv a file imports, by resolving its relative imports."""
    found = set()
    folder = path.relative_to(repository).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*folder[: len(folder) - node.level + 1], *(node.module.split(".") if node.module else ()))
            found |= {base[0]} if base else {alias.name for alias in node.names}
    return found & set(RANKS)


def test_imports_are_resolved_at_any_depth(tmp_path: Path) -> None:
    file = tmp_path / "parity" / "traces" / "a.py"
    file.parent.mkdir(parents=True)
    for line, part in (
        ("from . import x", "parity"),
        ("from .x import y", "parity"),
        ("from ..traces.x import y", "parity"),
        ("from ...commands.x import y", "commands"),
        ("from ... import cli", "cli"),
    ):
        file.write_text(line)
        assert imported_parts(file, tmp_path) == {part}, line


def test_imports_go_one_way(repository: Path) -> None:
    files = [*repository.glob("*.py"), *(file for part in RANKS for file in (repository / part).rglob("*.py"))]
    assert len(files) > 150
    for file in files:
        part = file.relative_to(repository).parts[0].removesuffix(".py")
        if part in RANKS:
            upward = {other for other in imported_parts(file, repository) if RANKS[other] > RANKS[part]}
            assert not upward, f"{file.relative_to(repository)} imports {upward}"


def test_the_reference_shares_no_code_with_the_model(repository: Path) -> None:
    own = {"effdet_torch.config", "errors"}  # hyper-parameters, and how errors are raised
    beside = {"network": {"notes", "wide_variables"}, "training": {"network"}}
    for name in beside:
        source = ast.parse((repository / "parity" / "reference" / f"{name}.py").read_text())
        relative = {node.module for node in ast.walk(source) if isinstance(node, ast.ImportFrom) and node.level}
        assert relative == own | beside[name]


def test_tensorflow_is_imported_in_one_file(repository: Path) -> None:
    files = [*repository.glob("*.py"), *(file for part in RANKS for file in (repository / part).rglob("*.py"))]
    importing = {
        str(file.relative_to(repository))
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "tensorflow" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tensorflow")
    }
    assert importing == {"parity/reference/network.py"}


SHARED_BY_ALL_ROOMS = 12  # modules at the root of parity, at most: what only some share belongs in a folder


def test_torch_distributed_is_called_in_one_file(repository: Path) -> None:
    files = [file for part in RANKS for file in (repository / part).rglob("*.py")]
    calling = {
        str(file.relative_to(repository))
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("torch.distributed.")
    }
    assert calling == {"effdet_torch/processes.py"}


def test_every_folder_of_code_is_a_package_that_is_installed_and_typed(repository: Path) -> None:
    settings = configparser.ConfigParser()
    settings.read(repository / "setup.cfg")
    listed = set(settings["options"]["packages"].split())
    folders = {folder for part in RANKS for folder in (repository / part).rglob("*") if any(folder.glob("*.py"))}
    folders |= {repository / part for part in RANKS if (repository / part).is_dir()}
    names = {".".join(("effconv", *folder.relative_to(repository).parts)) for folder in folders}
    assert listed == names | {"effconv"}
    assert all((folder / "__init__.py").is_file() for folder in folders)
    typed = set(re.findall(r"-[pm] (effconv\.\w+)", (repository / "Makefile").read_text()))
    assert typed >= {f"effconv.{part}" for part in RANKS}


def test_parity_is_no_flat_drawer(repository: Path) -> None:
    modules = [path.name for path in (repository / "parity").glob("*.py") if path.name != "__init__.py"]
    assert 0 < len(modules) <= SHARED_BY_ALL_ROOMS, modules


def imported_files(path: Path, repository: Path) -> set[Path]:
    """The files of effconv that a file imports, at its top or within a function."""
    imported = set()
    folder = path.relative_to(repository).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = repository.joinpath(*folder[: len(folder) - node.level + 1], *(node.module or "").split("."))
            files = [base.with_suffix(".py"), *(base / f"{alias.name}.py" for alias in node.names)]
            imported |= {file for file in files if file.is_file()}
    return imported


def test_the_ways_through_the_code_are_those_of_the_imports(repository: Path) -> None:
    text = (repository / "CONTRIBUTING.md").read_text().partition("## Where to begin")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\d+\. `", text, re.MULTILINE)) == 10
    ways = [re.findall(r"`([\w/]+\.py)`", way) for way in text.partition("The way of")[2].split("\n- ")[1:]]
    assert len(ways) == 5
    for way in ways:
        reached: set[Path] = set()
        new = {repository / way[0]}
        while new:
            reached |= new
            new = set().union(*(imported_files(file, repository) for file in new)) - reached
        assert [file for file in way if repository / file not in reached] == []
    assert [file for file in re.findall(r"`([\w/]+\.py)`", text) if not (repository / file).is_file()] == []


def test_every_folder_has_a_line_in_contributing(repository: Path) -> None:
    tree = (repository / "CONTRIBUTING.md").read_text().partition("## The tree")[2].partition("\n## ")[0]
    for part in ("commands", "convert", "effdet_torch", "parity"):
        for folder in (repository / part, *(each.parent for each in (repository / part).glob("*/__init__.py"))):
            assert f"`{folder.name}/`" in tree, folder
