"""The migration: what the web server expects to find."""

import sys

from store import ask

ask(sys.argv[1], "SET", "schema", "2")
print("schema 2")
