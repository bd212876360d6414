"""What recurate does: one folder per verb."""
