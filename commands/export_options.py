"""What commands that export a model share: which model, what its file takes and drops, and what it is checked on."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import PATH, Number, fetch_release, force_option, json_option, model_option, verify_option
from .refusals import DOWNLOADED, UNCHECKED, choose_one, refuse_checks, refuse_given
from .weights_path import WEIGHTS

if TYPE_CHECKING:
    from ..effdet_torch.engines.onnx_detector import Detecting
    from ..effdet_torch.model import EfficientDet

WITHOUT_RAW = ("min_score", "max_detections", "check_on", "no_check")  # what the network alone has no use for


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The shared options, as they are given."""

    model: str | None
    ckpt: Path | None
    generation: str | None
    weights: str | None
    size: str | None
    raw: bool
    min_score: float | None
    max_detections: int | None
    check_on: Path | None
    no_check: bool
    verify: bool
    as_json: bool

    def refuse_unused(self, *others: str) -> None:
        """Refuse options beside others that leave them no effect; `others` have none with --raw either."""
        choose_one(DOWNLOADED)
        if self.raw:
            refuse_given((*WITHOUT_RAW, *others), "--raw")
        elif self.no_check:
            refuse_given(("check_on",), "--no-check")

    def open(self) -> "tuple[EfficientDet, Path]":
        """The model, and the file its weights are from. Raises EffconvError."""
        from ..convert.sources import open_checkpoint
        from ..effdet_torch.config import ConfigError
        from ..loading import CHECKPOINT_ENDINGS, load

        if self.model is None and (self.ckpt is None or self.ckpt.suffix != ".safetensors"):
            raise ConfigError("name the model to export", parameters={"model": "d0"})
        path = self.ckpt or fetch_release(self.model or "", self.generation, self.verify)
        if path.suffix not in CHECKPOINT_ENDINGS and not open_checkpoint(path, verify=self.verify).has_checksums:
            refuse_checks(UNCHECKED)
        return load(path, model=self.model, weights=self.weights, verify=self.verify), path

    def detecting(self, network: "EfficientDet", *, pixels: bool) -> "Detecting":
        """What the file takes, and what it drops."""
        from ..effdet_torch.engines.onnx_detector import Detecting
        from .options import parse_size

        detecting = Detecting(parse_size(self.size) if self.size else network.config.image_size, pixels=pixels)
        if self.min_score is not None:
            detecting = detecting._replace(score_threshold=self.min_score)
        if self.max_detections is not None:
            detecting = detecting._replace(max_outputs=self.max_detections)
        return detecting

    def pictures(self) -> list[bytes]:
        """The encoded pictures to check the file on; none: drawn ones."""
        return read_pictures(self.check_on) if self.check_on else []


def read_pictures(folder: Path) -> list[bytes]:
    """The first encoded pictures of a folder, as many as are sampled. Raises EffconvError where there are none."""
    from ..effdet_torch.preprocessing.decode import read_encoded
    from ..parity.prediction.image_files import sampled_images

    return [read_encoded(path) for path in sampled_images(folder)]


def refuse_file(line: str) -> None:
    """Say what is wrong with a file that was checked, before it takes its place, and exit with status 1."""
    click.echo(f"effconv: {line}; the file was not kept", err=True)
    sys.exit(1)


def export_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `Asked` has."""
    command = force_option(verify_option(json_option(command)))
    for option in reversed(
        [
            model_option(required=False),
            click.option("--ckpt", type=WEIGHTS, help="Checkpoint or converted weights; default: the released one."),
            click.option(
                "--generation",
                help="Released checkpoint to download: coco2 (default), coco, ... (`effconv models` lists all).",
            ),
            click.option(
                "--weights",
                type=click.Choice(["ema", "raw"]),
                help="Weights to take: moving averages (ema) or raw values; default: ema where there are any.",
            ),
            click.option("--size", metavar="HxW", help="Input height and width in pixels; default: the model's."),
            click.option(
                "--raw",
                is_flag=True,
                help="Export the network alone: outputs are class logits and box codes of every level.",
            ),
            click.option(
                "--min-score", type=Number(0, 1), help="Drop objects whose score is not above this; default: 0.05."
            ),
            click.option(
                "--max-detections",
                type=click.IntRange(min=1),
                help="Largest number of objects per image; default: 100.",
            ),
            click.option("--check-on", type=PATH, help="Folder of pictures to check the file on; default: drawn ones."),
            click.option("--no-check", is_flag=True, help="Keep the exported file without running it for a check."),
        ]
    ):
        command = option(command)
    return command
