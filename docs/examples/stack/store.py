"""As much of Redis's protocol (https://redis.io/docs/latest/develop/reference/protocol-spec/) as this example needs."""

import socket


def ask(path: str, *words: str) -> str:
    """Send a command to the server at a unix socket, and return its answer."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
        client.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
        with client.makefile("r", encoding="utf-8", newline="\r\n") as reader:
            answer = reader.readline().rstrip()
            return reader.readline().rstrip() if answer.startswith("$") and answer != "$-1" else answer[1:]
