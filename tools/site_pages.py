"""What the documentation site takes from outside docs/; mkdocs.yml names this file as its hook.

README.md is the first page and CHANGELOG.md the last. Links are followed from where a page lies in the checkout, so the
same text works there and on the site; a file outside docs/ that a page links to comes along.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}  # file of the checkout: page of the site
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of docs/, and the pages from outside."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(REPOSITORY / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The text of `page` with its links as they are on the site."""
    here = page.file.src_uri
    source = next((name for name, made in PAGES.items() if made == here), f"docs/{here}")

    def on_the_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        place = PAGES.get(target) or target.removeprefix("docs/")
        if place == target and files.get_file_from_path(place) is None and (REPOSITORY / target).is_file():
            files.append(File.generated(config, place, abs_src_path=str(REPOSITORY / target)))
        return posixpath.relpath(place, posixpath.dirname(here) or ".")

    return LINK.sub(on_the_site, markdown)
