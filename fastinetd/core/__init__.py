"""The path of a connection: the Board, admission, start and end of servers."""
