"""Artifacts: immutable directories, published atomically, local or mirrored to a remote store."""
