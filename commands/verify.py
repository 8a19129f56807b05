"""`effconv verify`: the whole claim in one command, for someone with a network."""

import contextlib
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import click

from .help_page import Command
from .options import PATH, Output, fetch_release, force_option, json_option, keep_others, print_json
from .refusals import DOWNLOADED, choose_one
from .weights_path import WEIGHTS


@click.command("verify", cls=Command)
@click.option(
    "--model",
    required=True,
    help="Model to verify by name: d0..d7x, lite0..lite4, d2-640, ... (`effconv models` lists all).",
)
@click.option("--ckpt", type=WEIGHTS, help="Checkpoint to verify; default: the released one, downloaded.")
@click.option(
    "--generation", help="Released checkpoint to download: coco2 (default), coco, ... (`effconv models` lists all)."
)
@click.option("--coco", type=PATH, help="Folder of COCO 2017 as unpacked; default: downloaded (1.1 GB) into the cache.")
@click.option("--split", help="Split of COCO 2017 to evaluate on; default: val2017.")
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of images in one batch of the network.",
)
@click.option("--workers", type=click.IntRange(min=0), help="Number of processes that read images.")
@click.option(
    "--device", default="cpu", show_default=True, help="Device that runs the network: cpu, cuda, cuda:1, and so on."
)
@click.option(
    "-o", "--output", type=Output(folder=True), help="Folder for weights and records; default: verified-MODEL."
)
@force_option
@json_option
def verify_command(
    model: str,
    ckpt: Path | None,
    generation: str | None,
    workers: int | None,
    output: Path | None,
    as_json: bool,
    coco: Path | None,
    split: str | None,
    batch: int,
    device: str,
) -> None:
    """Verify a released model from download to published AP.

    Downloads, converts, compares every layer, evaluates on COCO, and compares with what is published. Exits with
    status 0 if the published metrics are reproduced and no step fails; steps that are not proven are named.

    Cut off at any point, the same command goes on from there.
    """
    from ..effdet_torch.config import get_config
    from ..parity.verification.outcome import StepOutcome
    from ..parity.verification.report import done_line, print_steps
    from ..parity.verification.verification_page import verification_verdict
    from ..parity.verification.verify import Verification, verification_outputs, verify
    from ..progress import BYTES, IMAGES, Report, progress
    from .options import available_processors

    choose_one(DOWNLOADED)
    config = get_config(model)
    asked = Verification(
        model=model,
        output=output or Path(f"verified-{config.name}"),
        checkpoint=ckpt,
        coco=coco,
        split=split,
        batch=batch,
        workers=min(4, max(1, available_processors() - 1)) if workers is None else workers,
        device=device,
    )

    keep_others(verification_outputs(asked.output, config))

    def tell(step: StepOutcome) -> None:
        click.echo(done_line(step), err=True)

    with contextlib.ExitStack() as shown:

        def report(what: str) -> Callable[[int, int | None], None]:
            shown.close()  # the bar before, if any
            unit = IMAGES if what == "evaluating" else BYTES
            found: Report = shown.enter_context(progress(what, unit))
            return found

        command = shlex.join(["effconv", *sys.argv[1:]])
        record = verify(asked, lambda wanted: fetch_release(wanted, generation, True), command, report, tell)
    if as_json:
        print_json(record)
    else:
        verdict, state = verification_verdict(record)
        page = asked.output / "verification.html"
        print_steps(f"{record['model']}: {verdict}", state, record["steps"], page)
    sys.exit(0 if record["ok"] else 1)
