"""python -m bench [run] measures; plot, history and compare look at what was measured."""

from __future__ import annotations

import importlib
import sys

COMMANDS = ("run", "plot", "history", "compare")


def main() -> int:
    words = sys.argv[1:]
    command = words.pop(0) if words and words[0] in COMMANDS else COMMANDS[0]
    status: int = importlib.import_module(f"bench.{command}").main(words)  # plot alone needs matplotlib
    return status


if __name__ == "__main__":
    sys.exit(main())
