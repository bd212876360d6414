"""What is measured of rewards and samples."""
