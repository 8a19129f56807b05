"""A user's script is typed: mypy finds effconv's types, and what they forbid."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# An ignored error that is none is one itself under --strict: without types the last two lines would be.
SCRIPT = """
from pathlib import Path

import effconv

model = effconv.load("d1")
image, scale = effconv.preprocess(Path("street.jpg"), model)
(found,) = model.predict(["street.jpg"], min_score=0.3)
names: list[str] = [each.name for each in found]
pixels: float = found.boxes.sum().item() * scale
found.draw(image.numpy()).save("boxes.png")
effconv.fast(model)
effconv.save(model, "mine.safetensors")
names.append(found.scores)  # type: ignore[arg-type]
effconv.load(3)  # type: ignore[arg-type]
"""


@pytest.mark.slow
def test_a_users_script_is_typed(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "effconv").symlink_to(repository)
    (tmp_path / "script.py").write_text(SCRIPT)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "script.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert checked.returncode == 0, checked.stdout
