"""A process's ledger in the hands of a test or benchmark, and a row's rate (accounts.pyx)."""

from support.extension import extension

_compiled = extension("accounts")

Accounts = _compiled.Accounts
Rate = _compiled.Rate
