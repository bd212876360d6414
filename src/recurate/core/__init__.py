"""The ground: errors, settings, random streams, files, tables. It knows no loop."""
