"""Writes pages of documentation, and the stub of the Board's layout, from the tables."""
