"""How the tests' programs in C are compiled."""

STRICT = [f"-Werror={what}" for what in (
    "implicit-function-declaration", "implicit-int", "int-conversion", "incompatible-pointer-types",
)]  # fmt: skip
"""What is an error from gcc 14 on, wherever the tests run. (-w would hide it from an older compiler.)"""
