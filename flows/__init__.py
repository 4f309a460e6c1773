"""Prefect flows that order the stages, recipes, and the command line."""
