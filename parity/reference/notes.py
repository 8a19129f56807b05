"""What TensorFlow writes to the standard error about this machine, left out."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# How TensorFlow's C++ code marks information: I, the date and time, the thread, the place in its source. TFLite's marks
# none: the kernels it takes, and what its converter was asked for.
NOTE = re.compile(
    rb"I\d{4} |WARNING: All log messages before absl::InitializeLog|INFO: Created TensorFlow Lite |fully_quantize: "
)


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
    """Hold back what libraries write to the standard error, and pass on all but their notes when done."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            written.seek(0)
            lines = [line for line in written if not NOTE.match(line)]
            os.write(2, b"".join(lines))
