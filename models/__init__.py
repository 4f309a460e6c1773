"""Tokens and weights: everything that uses torch, transformers or vLLM. Does not know Prefect."""
