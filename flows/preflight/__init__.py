"""Checks a run before it starts: plans its stages, and checks their inputs, their data and this machine."""
