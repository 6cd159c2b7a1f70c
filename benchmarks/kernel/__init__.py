"""Products of adapter updates: the exact kernel, its sketch, and search."""
