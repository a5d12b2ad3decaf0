"""Pages of documentation, written from the tables."""
