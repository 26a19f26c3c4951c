"""Proves that a run added colour and changed nothing else."""
