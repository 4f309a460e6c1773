"""One flow per stage, their registry, and how a stage starts and ends."""
