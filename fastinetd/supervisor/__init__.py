"""The supervisor: generations of roles, one Plan after another."""
