"""Published experiments: their settings, what they claim, and whether it holds here."""
