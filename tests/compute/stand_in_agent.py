"""A stand-in for the agent, that keeps to its contract with the job.

What it does is said in the settings of the workspace.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

workspace = Path(sys.argv[1])
settings = json.loads((workspace / "settings.json").read_text())
if "die" in settings:
    print("the agent's last words:", settings["die"], flush=True)
    sys.exit(3)
lock = os.open(workspace / "agent.lock", os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
if settings.get("stubborn"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # a daemon of its own session, which no walk along parents finds
    subprocess.Popen(["sleep", "300"], start_new_session=True)
stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
identity = {
    "pid": os.getpid(),
    "starttime": int(stat[19]),
    "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    "version": "0",
}
(workspace / "agent.json.new").write_text(json.dumps(identity))
(workspace / "agent.json.new").replace(workspace / "agent.json")
print("noise on standard output", flush=True)
with (workspace / "journal.jsonl").open("a") as journal:
    journal.write(json.dumps({"environment": dict(os.environ), "cwd": str(Path.cwd())}) + "\n")
    journal.flush()
    deadline = time.monotonic() + settings.get("lives_s", 60.0)
    while time.monotonic() < deadline:
        for path in sorted((workspace / "inbox").glob("*.json")):
            journal.write(path.read_text() + "\n")
            journal.flush()
            path.unlink()
        time.sleep(0.02)
