"""Run a module as `python -m` does, and write its peak memory at the end: PEAK_FILE MODULE ARGUMENTS...

The system's figure for a finished child would not do: on Linux it is never below what the parent had. Nothing but the
standard library is imported here: it would count as the module's memory.
"""

import atexit
import runpy
import sys


def write_peak(path: str) -> None:
    """Write this process's peak of resident memory, in KiB, to `path`."""
    with open("/proc/self/status") as status, open(path, "w") as output:
        output.write(next(line for line in status if line.startswith("VmHWM:")).split()[1])


def main(peak_file: str, module: str, *arguments: str) -> None:
    """The peak is written however the module ends."""
    atexit.register(write_peak, peak_file)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
