"""One upload through the running services: `trio-process run smoke` starts them."""

import gzip
import json
import os
import time
from urllib.request import Request, urlopen

SITE = f"http://{os.environ.get('DEPOT_ADDRESS', '127.0.0.1:8080')}"


def test_an_upload_is_packed():
    with urlopen(Request(f"{SITE}/files/hello.txt", data=b"hello " * 1000, method="PUT"), timeout=30) as answer:
        file = json.load(answer)
    deadline = time.monotonic() + 30
    while file["state"] in ("waiting", "packing") and time.monotonic() < deadline:
        time.sleep(0.05)
        with urlopen(f"{SITE}/files/{file['id']}", timeout=30) as answer:
            file = json.load(answer)
    assert (file["state"], file["error"]) == ("packed", None)
    with urlopen(f"{SITE}/files/{file['id']}/packed", timeout=30) as answer:
        assert gzip.decompress(answer.read()) == b"hello " * 1000
