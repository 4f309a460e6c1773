"""Estimates of a recipe's time and memory, and a check that runs the real code with fake tensors."""
