"""What every other room speaks in: frames, stages, options, files that appear whole."""
