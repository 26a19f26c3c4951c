"""Still image files: reading, writing, metadata."""
