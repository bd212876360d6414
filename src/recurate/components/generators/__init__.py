"""Models that can be sampled and retrained. PyTorch is imported only inside functions."""
