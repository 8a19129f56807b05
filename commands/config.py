"""The command that writes a model's configuration, to be changed or trained from."""

import dataclasses

import click

from .help_page import Command
from .options import print_json


@click.command("config", cls=Command)
@click.argument("model", help="Model by name (d0..d7x, lite0..lite4, ...) or a .json configuration.")
@click.option(
    "--num-classes",
    type=click.IntRange(min=1),
    help="Number of classes; default: the model's, or as many as --names has.",
)
@click.option("--names", help="Names of the classes in the order of category ids 1, 2, ..., with commas between.")
def config_command(model: str, num_classes: int | None, names: str | None) -> None:
    """Print a model's configuration as JSON, to change or to keep.

    MODEL is d0..d7x, lite0..lite4, ... or a .json file. `effconv config d0 --names cat,dog,bird > pets.json` describes
    d0 with three classes; weights trained by it know their names.
    """
    from ..effdet_torch.config import config_from_dict, config_to_dict, get_config

    config = get_config(model)
    class_names = tuple(name.strip() for name in names.split(",")) if names else ()
    classes = num_classes or len(class_names) or config.num_classes
    kept = class_names or (config.class_names if classes == config.num_classes else ())
    values = config_to_dict(dataclasses.replace(config, num_classes=classes, class_names=kept))
    config_from_dict(values, source=f"{model} with these classes")  # refuses what cannot be read again
    print_json(values)
