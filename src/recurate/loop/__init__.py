"""The loop itself: configuration, one round, the driver, the run folder."""
