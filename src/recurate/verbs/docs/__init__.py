"""`recurate docs`: the documentation, as installed."""
