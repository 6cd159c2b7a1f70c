"""For all tests: one thread, set before torch or a BLAS is imported."""

import os

# The number of threads shows in the last bits of sums, and some tests compare bits of what this
# process computes with what a training actor does, which has one. Fewer is also faster on 2 cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
