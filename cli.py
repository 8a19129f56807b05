"""The `effconv` command: each subcommand parses, calls one function, prints, and sets the exit status.

Exit status: 0 done, 1 a verification failed, 2 the input is bad. Heavy imports happen inside the commands, so that
`--help` answers at once and converting imports neither torch nor TensorFlow.
"""

import click

from .commands import bench_networks, bench_processes
from .commands.ablate import ablate_command
from .commands.bench import bench
from .commands.card import card_command
from .commands.check import check_command
from .commands.command_line import CommandLine
from .commands.config import config_command
from .commands.convert import convert_command
from .commands.demo import demo
from .commands.download import download_command
from .commands.evaluate import eval_command
from .commands.export import export
from .commands.finetune import finetune_command
from .commands.identify import identify_command
from .commands.inspect import inspect
from .commands.models import models
from .commands.parity import parity
from .commands.predict import predict_command
from .commands.results import results_command
from .commands.shapes import shapes_command
from .commands.tf2torch import tf2torch
from .commands.torch2tf import torch2tf
from .commands.trace import trace_command
from .commands.train import train_command
from .commands.verify import verify_command
from .version import __version__
from .waiting import wait_briefly


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="effconv")
def main() -> None:
    """Official TensorFlow EfficientDet weights in PyTorch, with proof that nothing changed on the way."""


for heading, commands in {
    "Convert": (tf2torch, convert_command, torch2tf, inspect, identify_command, download_command),
    "Prove": (parity, trace_command, verify_command, demo),
    "Evaluate and explain": (predict_command, eval_command, ablate_command),
    "Train and ship": (
        check_command,
        shapes_command,
        config_command,
        finetune_command,
        train_command,
        export,
        card_command,
    ),
    "Measure and look up": (models, results_command, bench),
}.items():
    main.add_commands(heading, commands)
for command in (*bench_networks.COMMANDS, *bench_processes.COMMANDS):
    bench.add_command(command)

if __name__ == "__main__":
    wait_briefly()
    main()
