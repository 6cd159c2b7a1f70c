"""`python -m lorastyle.distributed.keeper DIR [--keep]`: ends a local cluster with its owner.

The owner holds a pipe to this process's stdin. However the owner ends, by SIGKILL too, the pipe
closes, and the keeper takes down what the cluster started; then its directory, if not to be kept.
"""

from __future__ import annotations

import shutil
import signal
import sys

from lorastyle.distributed.processes import end


def main(directory: str, *, keep: bool) -> int:
    """Wait for the end of stdin, then end the cluster: 0 if nothing of it is left, else 1."""
    # A signal to the whole terminal is the owner's to act on: it closes the pipe.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    gone = end(directory)
    if gone and not keep:
        shutil.rmtree(directory, ignore_errors=True)
    return 0 if gone else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], keep="--keep" in sys.argv[2:]))
