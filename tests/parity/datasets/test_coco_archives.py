"""COCO's archives from a server on loopback that stands in: verified, resumed, unpacked safely and whole."""

from pathlib import Path

import pytest

from effconv.errors import EffconvError
from effconv.parity.datasets import coco_archives
from effconv.parity.datasets.coco_archives import ARCHIVES, download_coco, unpack
from loopback import Handler, Server, status
from stand_in_archives import by_path, stand_in, zipped

IMAGES = {f"val2017/{number:012d}.jpg": bytes([number]) * 40_000 for number in range(1, 30)}
ANNOTATIONS = {"annotations/instances_val2017.json": b"{}" * 900, "annotations/instances_train2017.json": b"[]"}


CONTENTS = [zipped(ANNOTATIONS), zipped(IMAGES)]


@pytest.fixture
def web(server: Server, impatient: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    """Serves stand-ins of the two archives, which are known by their hashes."""
    archives = [stand_in(archive, content) for archive, content in zip(ARCHIVES, CONTENTS, strict=True)]
    monkeypatch.setattr(coco_archives, "ARCHIVES", archives)
    monkeypatch.setenv("EFFCONV_COCO_MIRROR", server.url.rpartition("/")[0] + "/")
    monkeypatch.setenv("EFFCONV_CACHE", str(tmp_path / "cache"))
    server.otherwise = by_path({f"/{each.path}": content for each, content in zip(archives, CONTENTS, strict=True)})
    return server


def get() -> Path:
    return download_coco(lambda what: lambda done, total: None)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def test_the_real_archives_are_asked_for_by_their_published_hashes() -> None:
    assert [archive.url for archive in ARCHIVES] == [
        "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
        "http://images.cocodataset.org/zips/val2017.zip",
    ]
    assert [archive.sha256[:8] for archive in ARCHIVES] == ["113a836d", "4f7e2ccb"]
    assert [archive.size for archive in ARCHIVES] == [252907541, 815585330]


def test_images_and_annotations_are_unpacked_once(web: Server) -> None:
    folder = get()
    wanted = {**IMAGES, "annotations/instances_val2017.json": ANNOTATIONS["annotations/instances_val2017.json"]}
    assert files(folder) == wanted
    assert len(web.requests) == 2
    assert not list((folder.parent / "coco2017-archives").glob("*.zip"))  # a gigabyte that nobody needs twice
    assert get() == folder
    assert len(web.requests) == 2


def test_a_cut_download_goes_on_where_it_was(web: Server) -> None:
    honest = web.otherwise
    web.script = [honest, by_path({"/zips/val2017.zip": CONTENTS[1]}, 300_000)]
    assert "val2017/000000000001.jpg" in files(get())
    assert web.requests[2]["Range"] == "bytes=300000-"


def test_another_archive_is_thrown_away(web: Server) -> None:
    other = CONTENTS[1][:-1] + b"x"
    web.script = [web.otherwise, by_path({"/zips/val2017.zip": other})]
    with pytest.raises(EffconvError, match="expected sha256"):
        get()
    assert "val2017/000000000001.jpg" in files(get())


def test_a_server_without_it_is_named_and_what_is_there_is_kept(web: Server) -> None:
    web.script = [web.otherwise, status(404)]
    with pytest.raises(EffconvError, match=r"zips/val2017\.zip.*404"):
        get()
    assert len(web.requests) == 2
    get()
    assert len(web.requests) == 3  # the annotations are there


def test_a_slow_server_is_waited_for(web: Server) -> None:
    def slowly(handler: Handler) -> None:
        handler.start(200, Content_Length=len(CONTENTS[0]))
        for start in range(0, len(CONTENTS[0]), 500):
            handler.body(CONTENTS[0][start : start + 500])
            handler.wfile.flush()

    web.script = [slowly]
    assert "annotations/instances_val2017.json" in files(get())


def test_an_interrupted_unpacking_is_done_again(web: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = coco_archives.shutil.copyfileobj
    calls = []

    def interrupted(source: object, output: object) -> None:
        calls.append(1)
        if len(calls) == 10:
            raise KeyboardInterrupt
        copy(source, output)

    monkeypatch.setattr(coco_archives.shutil, "copyfileobj", interrupted)
    with pytest.raises(KeyboardInterrupt):
        get()
    folder = coco_archives.cache_folder() / "coco2017"
    assert not (folder / "val2017").exists()
    get()
    assert set(files(folder)) >= set(IMAGES)
    assert len(web.requests) == 2  # the archive was still there


@pytest.mark.parametrize(
    "names",
    [
        ["../val2017/000000000001.jpg"],
        ["/val2017/000000000001.jpg"],
        ["val2017/../../000000000001.jpg"],
        ["val2017/1.jpg", "val2017/", "other/000000000001.jpg"],
        [],
    ],
)
def test_members_of_other_names_are_left_alone(names: list[str], tmp_path: Path) -> None:
    archive = ARCHIVES[1]
    path = tmp_path / "given.zip"
    path.write_bytes(zipped(dict.fromkeys(names, b"x")))
    with pytest.raises(EffconvError, match=r"expected members like .*, found none"):
        unpack(path, archive, tmp_path / "inside" / "folder")
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["folder", "given.zip", "inside"]


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    path = tmp_path / "given.zip"
    content = CONTENTS[1]
    for damaged in (b"", content[:1000], content[:-30], content[:2000] + bytes(2000) + content[4000:]):
        path.write_bytes(damaged)
        with pytest.raises(EffconvError, match=r"given\.zip: cannot be unpacked"):
            unpack(path, ARCHIVES[1], tmp_path / "folder")
        assert not (tmp_path / "folder" / "val2017").exists()


def test_a_member_that_claims_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_archives, "LARGEST_MEMBER", 39_999)
    (tmp_path / "given.zip").write_bytes(CONTENTS[1])
    with pytest.raises(EffconvError, match="claims 40000 bytes"):
        unpack(tmp_path / "given.zip", ARCHIVES[1], tmp_path / "folder")
