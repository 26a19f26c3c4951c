"""A look at what a graph makes of one film or picture: the command `bwpipe preview`."""
