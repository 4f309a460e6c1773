"""Exports from a store: model and dataset cards, and a corpus that `datasets` can open."""
