"""Exports a policy as a self-contained Hugging Face folder."""
