"""Rewards, functions from samples to numbers; and groupings, functions from samples to labels."""
