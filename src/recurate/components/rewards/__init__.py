"""Functions from samples to numbers, and from samples to groups. PyTorch is imported lazily."""
