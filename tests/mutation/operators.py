"""What a mutation is, and the operators that make them of a file: Python by its syntax, Cython and C line by line."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

OPPOSITES = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "is not": "is", "is": "is not",
             "not in": "in", "in": "not in"}  # fmt: skip
OPERATORS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is",
             ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in"}  # fmt: skip


@dataclass(frozen=True)
class Mutation:
    """One text of a file in another's place. `name` is the kind and where it is; `line` tells equal texts apart."""

    file: str
    name: str
    find: str
    replace: str
    line: int = 0  # 0: the text occurs once

    def applied(self, text: str) -> str:
        """The mutated source. Raises ValueError when it does not fit."""
        if not self.line:
            if text.count(self.find) != 1:
                raise ValueError(f"{self.file} has {self.find!r} {text.count(self.find)} times")
            return text.replace(self.find, self.replace)
        lines = text.splitlines(keepends=True)
        if lines[self.line - 1] != self.find:
            raise ValueError(f"{self.file}:{self.line} is another line now")
        lines[self.line - 1] = self.replace
        return "".join(lines)


def mutations_of(file: str, text: str) -> list[Mutation]:
    """Every mutation that the operators make of a file."""
    lines = text.splitlines(keepends=True)
    changes = _of_python(text) if file.endswith(".py") else _of_lines(lines)
    found = []
    for kind, number, start, end, new in changes:
        line = lines[number - 1]
        changed = line[:start] + new + line[end:]
        if changed != line:
            what = f"{line[start:end].strip()!r} -> {new.strip()!r}"
            found.append(Mutation(file, f"{kind} {number:04}: {what}", line, changed, number))
    return found


Change = tuple[str, int, int, int, str]
"""Kind, line, first and last column, and what stands there instead."""


def _of_python(text: str) -> Iterator[Change]:
    """Changes of the nodes of a syntax tree that stand on one line, which are nearly all."""
    tree = ast.parse(text)
    lines = text.splitlines()
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.expr | ast.stmt) or node.lineno != node.end_lineno or node.end_col_offset is None:
            continue
        line = lines[node.lineno - 1]
        if not line.isascii() or id(node) in docstrings:
            continue
        start, end, number = node.col_offset, node.end_col_offset, node.lineno
        match node:
            case ast.Compare(left=left, ops=[operator], comparators=[right]):
                word = OPERATORS[type(operator)]
                assert left.end_col_offset is not None
                between = line[left.end_col_offset : right.col_offset]
                yield ("compare", number, left.end_col_offset, right.col_offset,
                       between.replace(word, OPPOSITES[word], 1))
            case ast.BoolOp(op=operator, values=[left, right, *_]):
                assert left.end_col_offset is not None
                between = line[left.end_col_offset : right.col_offset]
                new = between.replace("and", "or") if isinstance(operator, ast.And) else between.replace("or", "and")
                yield "logic", number, left.end_col_offset, right.col_offset, new
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                yield "logic", number, start, operand.col_offset, ""
            case ast.Constant(value=bool(value)):
                yield "constant", number, start, end, str(not value)
            case ast.Constant(value=int() | float() as value):
                yield "limit", number, start, end, str(value + 1)
            case ast.Constant(value=str(value)) if value.isidentifier() and line[start] in "\"'":
                yield "name", number, start, end, repr(value + "x")
            case ast.Attribute(value=ast.Name("errno"), attr=attr):
                yield "errno", number, start, end, "errno.ESRCH" if attr != "ESRCH" else "errno.EIO"
            case ast.Expr(value=ast.Call()):
                yield "call", number, start, end, "pass"
            case ast.Return(value=ast.expr()):
                yield "return", number, start, end, "return None"


_CALL = re.compile(r"^( *)(?!return|cdef|def|if|while|for|elif|else|assert|print)[\w.]+\((?:[^()]|\([^()]*\))*\);?$")
_ASSIGNMENT = re.compile(r"^( *)[\w.\[\]>*-]+ [+-]?= [^=].*$")
_PATTERNS: tuple[tuple[str, re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    ("compare", re.compile(r" (<=|>=|==|!=|<|>) "), lambda found: f" {OPPOSITES[found[1]]} "),
    ("logic", re.compile(r"\b(and|or)\b|&&|\|\|"),
     lambda found: {"and": "or", "or": "and", "&&": "||", "||": "&&"}[found[0]]),
    ("logic", re.compile(r"\bnot (?!in\b)"), lambda found: ""),
    ("constant", re.compile(r"\b(True|False)\b"), lambda found: "False" if found[0] == "True" else "True"),
    ("limit", re.compile(r"(?<![\w.])\d+(?![\w.x])"), lambda found: str(int(found[0]) + 1)),
    ("errno", re.compile(r"\bE[A-Z]{3,}\b"), lambda found: "EPROTO" if found[0] != "EPROTO" else "EPERM"),
    ("sign", re.compile(r" ([+-]) "), lambda found: " - " if found[1] == "+" else " + "),
)  # fmt: skip


def _of_lines(lines: list[str]) -> Iterator[Change]:
    inside = False  # a docstring, or a comment of C
    for number, line in enumerate(lines, 1):
        code = line.rstrip("\n")
        marks = code.count('"""') + code.count("/*") + code.count("*/")
        if inside or marks or code.lstrip().startswith(("#", "from ", "cimport ", "import ")):
            inside ^= marks % 2 == 1
            continue
        code = code.partition("  #")[0]
        for kind, pattern, new in _PATTERNS:
            for found in pattern.finditer(code):
                yield kind, number, found.start(), found.end(), new(found)
        if whole := _CALL.match(code) or _ASSIGNMENT.match(code):
            yield "call", number, len(whole[1]), len(code), ";" if code.endswith(";") else "pass"
