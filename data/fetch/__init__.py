"""Polite HTTP: one client with retries and limits, remote files read like local ones, downloads that resume."""
