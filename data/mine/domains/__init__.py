"""The domain table of a round, and its annotation by a person or by a threshold."""
