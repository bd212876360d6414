"""The verb `forecast`."""
