"""The built-in networks: one file, one network."""
