"""Corpus mining in rounds with domain discovery (paper section 2.1)."""
