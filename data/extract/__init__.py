"""HTML to text that keeps mathematics."""
