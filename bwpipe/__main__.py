"""`python -m bwpipe` is `bwpipe`."""

from bwpipe.cli import main

if __name__ == "__main__":
    main()
