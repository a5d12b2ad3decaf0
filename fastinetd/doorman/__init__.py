"""The role that finds out who clients are."""
