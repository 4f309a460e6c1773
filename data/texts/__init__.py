"""Documents of any text source, and generated ones."""
