"""Entry point of `python -m bwpipe`."""

from bwpipe.cli.main import main

if __name__ == "__main__":
    main()
