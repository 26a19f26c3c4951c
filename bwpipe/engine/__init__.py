"""Runs a graph: threads, channels, batches, the ledger, resuming."""
