"""The stage `train` as a job: `python -m jobs.train --config CONFIG --run RUN`."""

import sys

from jobs._arguments import main

if __name__ == "__main__":
    sys.exit(main(["train"]))
