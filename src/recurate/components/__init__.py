"""What strangers replace: data, generators, rewards."""
