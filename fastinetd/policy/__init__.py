"""Decisions as numbers: addresses, times, rates, pauses. Pure functions of their arguments."""
