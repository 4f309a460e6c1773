"""The DuckDB index over manifests: lineage in both directions, drawn as a picture, and read-only SQL."""
