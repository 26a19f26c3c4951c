"""Progress reporting of a training: the terminal, `progress.html` and TensorBoard event files."""
