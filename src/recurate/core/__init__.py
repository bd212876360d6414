"""The lowest floor: errors, settings, random streams, files and tables. Nothing here knows about loops."""
