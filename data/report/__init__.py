"""One self-contained page about a run, and its table of scores for the terminal."""
