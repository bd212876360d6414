"""Monitors of a run: views on the console and loggers for other tools."""
