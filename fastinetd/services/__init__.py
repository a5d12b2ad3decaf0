"""What the supervisor does for each service while it is configured."""
