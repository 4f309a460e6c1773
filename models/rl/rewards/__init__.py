"""Rewards of completions: the reward model, the answer checker, your own functions, and servers."""
