"""Paired grey and colour photographs for training."""
