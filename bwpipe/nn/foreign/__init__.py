"""Files of other programs that hold networks: what is in them is read without running any code of theirs."""
