"""Clients whose names decide, while they wait for the doorman's answer: nothing of it is Python's."""
