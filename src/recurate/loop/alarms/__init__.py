"""When something is wrong with a run."""
