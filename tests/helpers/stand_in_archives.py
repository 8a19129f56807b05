"""Archives of COCO made up for tests, and a server's answer with them."""

import hashlib
import io
import zipfile
from collections.abc import Callable

from effconv.parity.datasets.coco_archives import CocoArchive
from loopback import Handler, serve


def zipped(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


def stand_in(archive: CocoArchive, content: bytes) -> CocoArchive:
    return archive._replace(size=len(content), sha256=hashlib.sha256(content).hexdigest())


def by_path(contents: dict[str, bytes], cut: int | None = None) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.server.content = contents[handler.path]
        serve(handler, cut)

    return answer
