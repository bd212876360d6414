"""The exact laws of self-consuming loops with curated data: NumPy and SciPy only."""
