"""Problem sets: one module per data set, and one `Problem` type."""
