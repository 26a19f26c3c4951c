"""Networks: their contract, checkpoints, devices, inference."""
