"""The role that serves in process."""
