"""Every page as a browser shows it, at two widths, in light and dark: `make screenshots`, to be looked at.

Pages are made by the commands that write them, of the detector that ships with effconv; a port's of what was measured,
a verification's of made-up figures. Pictures and pages are left in the folder that is named (`build/screenshots`).
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

REPOSITORY = Path(__file__).resolve().parent.parent
SHAPES = REPOSITORY / "examples" / "shapes"
PORT_STAGES = REPOSITORY / "results" / "measured" / "ports-stages.json"
WIDTHS = (400, 1400)  # pixels
HIGHEST = 5000  # pixels of a picture; of a longer page the beginning
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MODEL = ("--model", str(SHAPES / "config.json"), "--ckpt", str(SHAPES))


def effconv(*arguments: object, fails: bool = False) -> None:
    """Run one command, which is to exit with 1 where it `fails`."""
    done = subprocess.run([sys.executable, "-m", "effconv", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != int(fails):
        raise SystemExit(f"effconv {arguments[0]} exited with {done.returncode}: {done.stderr}")


def wrong_weights(right: Path, folder: Path) -> Path:
    """The demonstration's weights with one norm's statistics off."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(right, "np") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = {name: text for name, text in (file.metadata() or {}).items() if "crc" not in name}
    state["backbone.stem.norm.running_var"] = state["backbone.stem.norm.running_var"] + 1e-2
    save_file(state, folder / "wrong.safetensors", metadata)
    return folder / "wrong.safetensors"


def make_pages(folder: Path) -> dict[str, Path]:
    """The pages by name."""
    demo = folder / "demo"
    effconv("demo", "-o", demo, "--force")
    reference = ("--reference", SHAPES / "trace.npz")
    effconv("parity", *MODEL, *reference, "--report", folder / "parity.html", "--force")
    wrong = wrong_weights(demo / "shapes.safetensors", folder)
    failing = (
        "--candidate",
        wrong,
        "--no-verify",
        "--explain",
        "--report",
        folder / "parity-failing.html",
        "--force",
    )
    effconv("parity", *MODEL, *reference, *failing, fails=True)
    effconv("check", demo / "pictures", "--report", folder / "check.html", "--force")
    changes = ("--no-same-maxpool", "--batch-norm-epsilon", "--no-clip")
    effconv("ablate", *changes, "--limit", 60, "--report", folder / "ablate.html", "--force")
    images = ("--coco", demo / "pictures", "--limit", 6)
    effconv("parity", "--end-to-end", *MODEL, *images, "--report", folder / "end-to-end.html", "--force")
    other = ("--nms", "hard", "--report", folder / "end-to-end-failing.html", "--force")
    effconv("parity", "--end-to-end", *MODEL, *images, *other, fails=True)
    port_page(folder / "port.html")
    verification_page(folder / "verify.html")
    names = ("parity", "parity-failing", "check", "ablate", "end-to-end", "end-to-end-failing", "port", "verify")
    return {"demo": demo / "index.html", **{name: folder / f"{name}.html" for name in names}}


def port_page(path: Path) -> None:
    """The page of the first port that was measured: the port itself need not be installed."""
    from effconv.parity.referee.stage_records import PortStagesRecord
    from effconv.parity.referee.stages_job import StagesRecord
    from effconv.parity.referee.stages_page import write_stages_report

    measured = PortStagesRecord.read(json.loads(PORT_STAGES.read_text(encoding="utf-8")))
    found = measured.comparisons[0]
    record = StagesRecord(ok=found.ok, verdict=found.verdict, found=found, provenance=measured.provenance)
    write_stages_report(record, path)


def verification_page(path: Path) -> None:
    """The page of a verification that is made up: a real one takes a released checkpoint and all of COCO."""
    from effconv.parity.rendering.html import write_page
    from effconv.parity.verification.verification_page import CLAIMS, verification_html

    outcomes = (None, True, True, False, None)
    steps = [
        {"name": name, "holds": holds, "verdict": "made up, to be looked at"}
        for name, holds in zip(CLAIMS, outcomes, strict=True)
    ]
    rows = [
        {"metric": "AP", "ours": 0.3431, "published": 0.343},
        {"metric": "APs", "ours": 0.1, "published": None},
    ]
    record = {
        "model": "made up",
        "ok": False,
        "steps": steps,
        "metrics": {"published": {"holds": None, "rows": rows}, "conditions": {"images": 0}},
        "provenance": {"made up": True},
    }
    write_page(verification_html(record), path)


def main() -> None:
    """Make the pages and their pictures."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else REPOSITORY / "build" / "screenshots").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise SystemExit(f"no browser on this machine: none of {', '.join(BROWSERS)}")
    pages = make_pages(folder)
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name, path in pages.items():
            for width in WIDTHS:
                for scheme in ("light", "dark"):
                    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                    page.goto(path.as_uri())
                    page.wait_for_timeout(500)
                    height = min(HIGHEST, page.evaluate("document.documentElement.scrollHeight"))
                    picture = folder / f"{name}-{width}-{scheme}.png"
                    clip = {"x": 0, "y": 0, "width": width, "height": height}
                    page.screenshot(path=str(picture), clip=clip, full_page=True)
                    print(f"{picture} {path.stat().st_size / 1e6:.2f} MB")
                    page.close()
        browser.close()


if __name__ == "__main__":
    main()
