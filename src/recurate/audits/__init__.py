"""What a log tells of the loop that wrote it: counts, the rule really used, what was reused across rounds."""
