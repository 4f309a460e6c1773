"""Self-contained HTML reports, and tables of scores for the terminal."""
