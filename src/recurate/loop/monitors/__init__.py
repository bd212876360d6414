"""Who is shown what happens in a run."""
