#!/usr/bin/python3
"""hello.py, but that it leaves without the interpreter's tearing itself down, which is most of what is left of it."""

import json
import os
import re
import socket

WORD = re.compile(r"[a-z]+")

with socket.socket(fileno=0) as connection:
    if found := WORD.search(json.loads('"hello"')):
        connection.sendall(f"{found[0]}\n".encode())
os._exit(0)
