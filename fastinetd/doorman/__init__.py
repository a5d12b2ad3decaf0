"""The role that looks up clients' names."""
