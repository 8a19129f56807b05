"""The errors effconv raises on purpose: each names the thing, what was expected and found, and the next step."""


class EffconvError(Exception):
    """Base of every error effconv raises about its input; the command line prints it and exits with `exit_status`."""

    exit_status = 2


class VerificationError(EffconvError):
    """Two things that should be equal are not: the input was readable, the claim about it is false."""

    exit_status = 1


class CheckpointError(EffconvError):
    """A checkpoint that is damaged, incomplete, hostile, or of a kind effconv does not read."""
