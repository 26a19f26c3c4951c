"""The built-in stages: one file, one stage, one name."""
