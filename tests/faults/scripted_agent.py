"""An agent that plays a recorded journal, event by event, as fast as it is allowed to.

The file `pace` of the workspace says how many events it may write; it is read again and again.
"""

import fcntl
import json
import os
import sys
import time
from pathlib import Path

workspace = Path(sys.argv[1])
lock = os.open(workspace / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
identity = {
    "pid": os.getpid(),
    "starttime": int(stat[19]),
    "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    "version": "0",
}
(workspace / "agent.json.new").write_text(json.dumps(identity))
(workspace / "agent.json.new").replace(workspace / "agent.json")
recorded = Path(json.loads((workspace / "settings.json").read_text())["recorded"])
(workspace / "artifacts").symlink_to(recorded / "artifacts")
lines = (recorded / "journal.jsonl").read_bytes().splitlines(keepends=True)
deadline = time.monotonic() + 120
with (workspace / "journal.jsonl").open("ab", buffering=0) as journal:
    for number, line in enumerate(lines):
        while number >= int((workspace / "pace").read_text()):
            if time.monotonic() > deadline:
                sys.exit(1)
            time.sleep(0.02)
        journal.write(line)
