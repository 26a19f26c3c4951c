"""The tools behind the commands other than `run`: describe, estimate, preview."""
