"""An ablation as a job: `python -m jobs.ablate RUN FACTOR`, as `lorastyle ablate` takes it.

Adapters that are missing are trained on the job's cluster. SIGTERM (`ray job stop`) ends it as
Ctrl-C does; the same job goes on.
"""

from jobs._stopping import stoppable
from lorastyle.cli.ablate import command

if __name__ == "__main__":
    with stoppable():
        command()
