"""What is written from the tables: pages of documentation, the stub of the Board's layout."""
