"""Scores networks, images and videos against a reference."""
