"""The stage `plan` as a job: `python -m jobs.plan --config CONFIG --run RUN`."""

import sys

from jobs._arguments import main

if __name__ == "__main__":
    sys.exit(main(["plan"]))
