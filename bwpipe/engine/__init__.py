"""The engine that runs a graph: threads, channels, batches, the ledger, resuming."""
