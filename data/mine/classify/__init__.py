"""The fastText classifier: its seed, training, scores, and how well it separates."""
