"""Numbered frames, one file each, that are one film: found, read and written."""
