"""Neural networks: architectures, devices, training; and how trained models are kept."""
