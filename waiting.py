"""How long a thread of PyTorch that has nothing to do keeps its processor before it gives it up."""

import os

SPINS = "10000"  # turns; far fewer cost time alone, more are spun away beside a busy process
SETTINGS = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"


def wait_briefly() -> None:
    """Have threads of PyTorch spin for SPINS turns where they wait for each other, then sleep.

    GNU OpenMP, which PyTorch's builds for Linux use, has them spin for far longer. On a machine that something else
    works on too, they then spin away the time that the thread they wait for needs. To be called before PyTorch is
    imported; what the environment says already is left alone. docs/performance.md has what it is worth.
    """
    if not any(setting in os.environ for setting in SETTINGS):
        os.environ["GOMP_SPINCOUNT"] = SPINS
