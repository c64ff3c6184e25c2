"""What Azure's Resource Manager answers, in the shapes that its reference documents."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

SIZES = [
    {
        "name": "Standard_D2s_v3",
        "numberOfCores": 2,
        "osDiskSizeInMB": 1047552,
        "resourceDiskSizeInMB": 16384,
        "memoryInMB": 8192,
        "maxDataDiskCount": 4,
    }
]


class Arm:
    """Resources by their path, and operations that take two questions until they have ended.

    Attributes:
        resources: What there is.
        refuses: Errors by the kind of resource that is asked for: status, code, message.
        on_machine: Called with each machine that is made.
    """

    def __init__(self) -> None:
        self.resources: dict[str, dict[str, Any]] = {}
        self.refuses: dict[str, tuple[int, str, str]] = {}
        self.on_machine: Callable[[dict[str, Any]], None] = lambda machine: None
        self.url = ""
        self._operations: dict[str, int] = {}

    def groups(self) -> list[dict[str, Any]]:
        return [each for path, each in self.resources.items() if path.count("/") == 4]

    def parts(self, kind: str) -> list[dict[str, Any]]:
        return [each for each in self.resources.values() if each["type"].endswith(f"/{kind}")]

    def answer(
        self, verb: str, path: str, query: dict[str, list[str]], body: dict[str, Any]
    ) -> tuple[int, dict[str, str], Any]:
        """Give status, headers and body."""
        if "/operations/" in path or "/results/" in path:
            return self._ask(path)
        if path.endswith(("/vmSizes", "/resourcegroups")) and verb == "GET":
            return 200, {}, {"value": SIZES if path.endswith("/vmSizes") else self._listed(query)}
        if verb == "PUT":
            return self._put(path, body)
        if verb == "POST":
            machine, _, what = path.rpartition("/")
            self.resources[machine]["state"] = {"start": "running"}.get(what, "deallocated")
            return 202, self._operation("operations", "Azure-AsyncOperation"), None
        if path not in self.resources:
            return 404, {}, _error("ResourceNotFound", f"The resource '{path}' was not found.")
        if verb == "DELETE":
            there = self.resources
            self.resources = {each: there[each] for each in there if not each.startswith(path)}
            return 202, self._operation("results", "Location"), None
        return (204, {}, None) if verb == "HEAD" else (200, {}, _shown(self.resources[path]))

    def _ask(self, operation: str) -> tuple[int, dict[str, str], Any]:
        self._operations[operation] += 1
        over = self._operations[operation] > 1
        if "/results/" in operation:
            return (200 if over else 202), {"Location": self.url + operation}, None
        return 200, {}, {"status": "Succeeded" if over else "InProgress"}

    def _listed(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        """Read a filter such as: tagName eq 'a' and tagValue eq 'b'."""
        _, key, _, value, _ = query["$filter"][0].split("'")
        return [group for group in self.groups() if group["tags"].get(key) == value]

    def _put(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        kind = path.split("/")[-2]
        if kind in self.refuses:
            status, code, message = self.refuses[kind]
            return status, {}, _error(code, message)
        provider = path.split("/providers/")[1].split("/")[0] if "/providers/" in path else ""
        made = {"id": path, "name": path.split("/")[-1], "type": f"{provider}/{kind}", **body}
        properties = made.setdefault("properties", {})
        properties["provisioningState"] = "Succeeded"
        for subnet in properties.get("subnets", ()):
            subnet["id"] = f"{path}/subnets/{subnet['name']}"
        if kind == "publicIPAddresses":
            properties["ipAddress"] = "127.0.0.1"
        self.resources[path] = made
        if not provider:
            return 201, {}, made
        if kind == "virtualMachines":
            made["state"] = "running"
            self.on_machine(made)
        return 201, self._operation("operations", "Azure-AsyncOperation"), _shown(made)

    def _operation(self, kind: str, header: str) -> dict[str, str]:
        path = f"/subscriptions/s/{kind}/{len(self._operations)}"
        self._operations[path] = 0
        return {header: self.url + path}


def _shown(made: dict[str, Any]) -> dict[str, Any]:
    """Show a machine without its user data, which is never given back, and with its state."""
    if "state" not in made:
        return made
    properties = json.loads(json.dumps(made["properties"]))
    properties["osProfile"].pop("customData")
    properties["instanceView"] = {
        "statuses": [
            {"code": "ProvisioningState/succeeded", "level": "Info"},
            {"code": f"PowerState/{made['state']}", "level": "Info"},
        ]
    }
    return {**{key: made[key] for key in ("id", "name", "type", "location")}} | {
        "properties": properties
    }


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


@contextmanager
def running_arm() -> Iterator[Arm]:
    """Answer on a free port of this machine."""
    arm = Arm()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def answer(self) -> None:
            url = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            status, headers, content = arm.answer(
                self.command,
                url.path.replace("/resourceGroups/", "/resourcegroups/"),
                parse_qs(url.query),
                body,
            )
            data = b"" if content is None else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Type": "application/json"}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815 - http.server's names

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        arm.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield arm
        finally:
            server.shutdown()
            thread.join()
