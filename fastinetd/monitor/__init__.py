"""The role that serves metrics and pages."""
