"""Where records and messages go."""
