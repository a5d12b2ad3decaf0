"""The library that holds programs."""
