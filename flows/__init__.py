"""The order of things: Prefect flows, recipes and the command line."""
