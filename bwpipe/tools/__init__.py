"""What commands do beside running a graph: describing, estimating, previewing."""
