"""The shared vocabulary: frames, stages, options, atomic files."""
