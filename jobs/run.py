"""The whole pipeline as a job: `python -m jobs.run --config CONFIG --run RUN`."""

import sys

from jobs._arguments import main
from lorastyle.runs import STAGES

if __name__ == "__main__":
    sys.exit(main(STAGES))
