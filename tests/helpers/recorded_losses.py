"""What the official losses were recorded with, and how near them a loss must come."""

import dataclasses
from pathlib import Path

from tensors import config_of

CONFIG = dataclasses.replace(config_of(Path(__file__).parent.parent / "golden" / "tiny-swish"), image_size=(128, 160))
# Sixteen units of float32: a few elementary functions of each value, good to some units each, and a sum of positive
# terms, whose errors are as likely up as down. It refuses the mistakes of `test_loss_mistakes.py`.
LOSS_LIMIT = 16 * 2.0**-24
