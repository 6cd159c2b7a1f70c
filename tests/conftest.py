"""For all tests: one thread, set before torch or a BLAS is imported."""

import os

# The number of threads shows in the last bits of sums, and some tests compare bits of what this
# process computes with what a training actor does, which has one. Fewer is also faster on 2 cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

# A busy machine is no bug: examples may take as long as they do. CI tries the same ones each time.
settings.register_profile("unhurried", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("unhurried")
