"""The documentation as a site: pages, the Python API it lists, and how a browser finds its way through it."""

import functools
import http.server
import importlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import effconv
from tiny_models import load_tiny

API = re.compile(r"(?m)^::: ([\w.]+)$")


def listed(repository: Path) -> list[str]:
    """The names that docs/api.md lists."""
    return API.findall((repository / "docs" / "api.md").read_text())


def test_what_the_api_page_lists_can_be_imported_and_is_documented(repository: Path) -> None:
    names = listed(repository)
    assert len(set(names)) == len(names)
    assert {"effconv.effdet_torch.postprocessing", "effconv.effdet_torch.training"} <= {
        name.rsplit(".", 2)[0] for name in names
    }
    for name in names:
        module, _, attribute = name.rpartition(".")
        found = getattr(importlib.import_module(module), attribute)
        assert found.__doc__, name
        assert not found.__doc__.startswith(f"{attribute}("), f"{name}: only what dataclasses say of themselves"


def test_every_name_of_the_package_is_on_the_api_page(repository: Path) -> None:
    names = {name.removeprefix("effconv.") for name in listed(repository)}
    assert set(effconv.__all__) - {"__version__"} <= names


def test_the_example_of_the_api_page_trains(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (repository / "docs" / "api.md").read_text(), re.DOTALL)
    model = load_tiny(repository / "tests" / "golden" / "tiny-swish")
    picture = repository / "examples" / "shapes" / "curve.png"
    monkeypatch.setattr(effconv, "load", lambda path: model, raising=False)
    names: dict[str, Any] = {}
    exec(code.replace("street.jpg", str(picture)), names)
    assert names["targets"].positives == (names["targets"].classes == 2).sum() > 0
    assert model.box_head.predict.pointwise.weight.grad.abs().max() > 0


@pytest.fixture(scope="module")
def site(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs-site` does; a broken link or a page left out fails."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install -c constraints.txt '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built_whole(site: Path, repository: Path) -> None:
    pages = {path.relative_to(repository / "docs").with_suffix("") for path in (repository / "docs").rglob("*.md")}
    built = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    assert built == pages | {Path("index"), Path("changelog"), Path("404")}
    for path in site.rglob("*.html"):
        text = path.read_text()
        assert "|---|" not in text, f"{path.name}: a table is shown as it is written"
        assert ":::" not in text, f"{path.name}: an instruction is shown as it is written"
        assert re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"(https?:[^\"]+)", text) == [], path.name
        for picture in re.findall(r"<img[^>]* src=\"([^\"]+)", text):
            assert (path.parent / picture).is_file(), f"{path.name}: {picture}"


def test_the_site_has_every_command_and_every_public_name(site: Path, repository: Path) -> None:
    commands, names = (site / "cli.html").read_text(), (site / "api.html").read_text()
    assert 'id="effconv-export-onnx"' in commands
    assert "--hold-out" in commands
    assert "Sentinel" not in commands
    assert [name for name in listed(repository) if f'id="{name}"' not in names] == []
    assert str(repository) not in names


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """Where a server on this machine has the site."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_reader_searches_and_lands_on_the_page(address: str, browser: Any) -> None:
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda made: complaints.append(made.url) if not made.url.startswith(address) else None)
    page.goto(f"{address}/index.html")
    page.locator("input.md-search__input").click()
    page.keyboard.type("fine-tune")
    found = page.locator("a.md-search-result__link")
    found.first.wait_for()
    assert any("finetune.html" in (each.get_attribute("href") or "") for each in found.all())
    found.first.click()
    page.wait_for_url(re.compile(r"h="))
    page.goto(f"{address}/train.html")
    page.locator("article a", has_text="recipes/finetune.md").click()
    page.wait_for_url("**/recipes/finetune.html")
    assert complaints == []
    page.close()
