"""Processes that wait for connections."""
