"""Admission and accounting: nothing of it is Python's."""
