"""Where work is done: in this process, in several, on a Ray cluster, or by hand."""
