"""Share the registry with go-process: both packages read and write the same files."""

import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from trio_process import DaemonEntry, Registry

with tempfile.TemporaryDirectory() as directory:  # default_registry() is ~/.core/daemons, where go-process looks
    # an entry as a Go program writes it: Go's time.Time has nanoseconds
    started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000000001Z")
    written_by_go = {
        "code": "billing",
        "daemon": "api",
        "pid": os.getpid(),
        "health": "127.0.0.1:8081",
        "started": started,
    }
    Path(directory, "billing-api.json").write_text(json.dumps(written_by_go, indent=2))

    registry = Registry(directory)
    with registry.registered(DaemonEntry(code="shop", daemon="web", health="127.0.0.1:8082")):
        for entry in registry.list():
            print(entry.code, entry.daemon, entry.health)
        written = json.loads(Path(directory, "shop-web.json").read_text())
        print(sorted(key for key in written if not key.startswith("trio_process.")))

    print(registry.get("shop", "web"))  # the block has been left: unregistered

# Prints:
#
#   billing api 127.0.0.1:8081
#   shop web 127.0.0.1:8082
#   ['code', 'daemon', 'health', 'pid', 'started']
#   None
