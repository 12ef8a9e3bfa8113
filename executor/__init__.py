"""The program inside every sandbox. See README.md for its wire protocol."""

VERSION = "0.1.0"
PROTOCOL = 1
