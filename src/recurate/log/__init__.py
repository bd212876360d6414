"""Logs of loops: their schema, how they are written and how they are read."""
