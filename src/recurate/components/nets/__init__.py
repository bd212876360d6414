"""Neural networks: devices, training, fields."""
