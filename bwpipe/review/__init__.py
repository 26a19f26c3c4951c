"""Looking at what was coloured, and correcting it: a page that needs no server, and one that does."""
