#!/usr/bin/python3
"""What a small service in Python looks like: three modules that nearly all of them import, one line out."""

import json
import re
import socket

WORD = re.compile(r"[a-z]+")

with socket.socket(fileno=0) as connection:
    if found := WORD.search(json.loads('"hello"')):
        connection.sendall(f"{found[0]}\n".encode())
