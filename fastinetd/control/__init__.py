"""What the running daemon is asked."""
