"""Proves that only colour was added."""
