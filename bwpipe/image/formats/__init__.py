"""One module per image format: header and metadata."""
