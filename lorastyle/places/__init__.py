"""Where files are kept: directories and buckets behind one interface."""
