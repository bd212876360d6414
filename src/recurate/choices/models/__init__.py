"""Models of choice, estimated from picks."""
