"""From any file that people have to a log."""
