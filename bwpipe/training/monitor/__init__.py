"""The live view of a training: `progress.html` and the event files of TensorBoard."""
