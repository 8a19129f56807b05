"""effconv: official TensorFlow EfficientDet weights in PyTorch, with the proof that nothing changed on the way.

The names a user needs are imported when first used, so that `import effconv` stays instant and imports neither
torch nor TensorFlow.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["EffconvError", "__version__", "compare", "compare_loss", "fast", "load", "preprocess", "save"]

if TYPE_CHECKING:
    from .effdet_torch.engines.fast import fast
    from .effdet_torch.preprocessing.preprocess import preprocess
    from .errors import EffconvError
    from .loading import load
    from .parity.referee.loss import compare_loss
    from .parity.referee.referee import compare
    from .saving import save
    from .version import __version__


def __getattr__(name: str) -> Any:
    if name == "load":
        from .loading import load

        return load
    if name == "compare":
        from .parity.referee.referee import compare

        return compare
    if name == "compare_loss":
        from .parity.referee.loss import compare_loss

        return compare_loss
    if name == "save":
        from .saving import save

        return save
    if name == "fast":
        from .effdet_torch.engines.fast import fast

        return fast
    if name == "preprocess":
        from .effdet_torch.preprocessing.preprocess import preprocess

        return preprocess
    if name == "EffconvError":
        from .errors import EffconvError

        return EffconvError
    if name == "__version__":
        from .version import __version__

        return __version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
