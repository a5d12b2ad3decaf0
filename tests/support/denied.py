"""denied.py ERRNO NUMBER PROGRAM ARGUMENTS: execute a program to which this system call is denied (seccomp(2))."""

import ctypes
import os
import struct
import sys

SET_SECCOMP, FILTER, ALLOW, ERRNO = 22, 2, 0x7FFF0000, 0x00050000

error, number = int(sys.argv[1]), int(sys.argv[2])
# Load the number; if it is this one go on to the next line but one.
lines = [(0x20, 0, 0, 0), (0x15, 1, 0, number), (0x06, 0, 0, ALLOW), (0x06, 0, 0, ERRNO | error)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
program = struct.pack("@HP", len(lines), ctypes.addressof(code))
if ctypes.CDLL(None).prctl(SET_SECCOMP, FILTER, program, 0, 0):
    sys.exit("seccomp is not allowed here")
os.execvp(sys.argv[3], sys.argv[3:])
