"""The words of the Board's layout for Python: enums of verdicts, states, records, methods and ends (layout.pxd)."""
