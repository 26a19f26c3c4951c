"""Datasets of paired grey and colour images for training."""
