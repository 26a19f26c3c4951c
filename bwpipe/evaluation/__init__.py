"""Scores of networks, images and videos against a reference."""
