"""Tokens and weights: torch, transformers, and vLLM in one file. Knows nothing of Prefect."""
