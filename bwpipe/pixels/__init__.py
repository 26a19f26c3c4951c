"""Pure functions on planes of pixels."""
