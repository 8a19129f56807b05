"""Whether the official computation can run here, or only what was recorded of it be read."""

import warnings

from ...errors import EffconvError
from .network import import_tensorflow


class RecordedWarning(UserWarning):
    """Says that what TensorFlow computed once, recorded, stands for TensorFlow."""


def runs_live() -> bool:
    """Whether TensorFlow runs here, which imports it; warns where its recordings are to be used, and why."""
    try:
        import_tensorflow()
    except EffconvError as error:
        warnings.warn(
            f"what TensorFlow computed, recorded, is used in its place. {error}", RecordedWarning, stacklevel=2
        )
        return False
    return True
