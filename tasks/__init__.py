"""Restartable units of work: artifacts in, artifacts out."""
