"""Alarms, which watch the measured values of a run."""
