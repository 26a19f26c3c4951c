"""One module for each image format: its header and its metadata."""
