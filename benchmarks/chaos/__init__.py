"""Kill everything, often, and count what is left: `python -m benchmarks.chaos`."""
