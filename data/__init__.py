"""Text and records. Knows nothing of Prefect or torch, so every function can be called from a notebook."""
