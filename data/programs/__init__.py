"""Running the programs in solutions."""
