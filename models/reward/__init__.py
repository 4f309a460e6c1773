"""Reward models: Math-Shepherd labels, training, and refresh with replay."""
