"""Problem sets: one file a dataset, one `Problem` type."""
