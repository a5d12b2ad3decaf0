"""The role that serves metrics and health pages."""
