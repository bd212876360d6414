"""What a loop writes down, and how it is read back."""
