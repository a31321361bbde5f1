"""A stand-in on the loopback for the server of Weights & Biases: what the real client needs to log a run and resume it.

It keeps what arrives: of each run its config, history, summary and files, and the files of its artifacts. A request
that it does not know is answered with an error and remembered, so that a test can tell.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

import yaml

KEY = "local" + "0" * 40
"""An API key of the right form."""
ENTITY = "somebody"


@dataclass
class Run:
    """What has arrived of a run."""

    name: str
    project: str
    config: dict[str, Any] = field(default_factory=dict)
    streams: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    begun: int = 0
    """How often a client has begun or resumed it."""
    sweep: str | None = None
    """The sweep that it belongs to."""
    exit_code: int | None = None
    """With which its client has ended it."""

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows that were logged."""
        return [json.loads(line) for line in self.streams.get("wandb-history.jsonl", [])]

    @property
    def summary(self) -> dict[str, Any]:
        """The last summary."""
        lines = self.streams.get("wandb-summary.json", ["{}"])
        return dict(json.loads(lines[-1]))

    def describe(self) -> dict[str, Any]:
        """The run as GraphQL names its parts."""
        project = {"id": "UHJvag==", "name": self.project, "entity": {"id": "RW50", "name": ENTITY}}
        return {
            "id": base64.b64encode(f"Run:v1:{self.name}:{self.project}:{ENTITY}".encode()).decode(), "name": self.name,
            "displayName": self.name, "description": None, "jobType": None, "host": None, "sweepName": None,
            "config": json.dumps(self.config), "project": project, "historyLineCount": 0, "eventsLineCount": 0,
            "logLineCount": 0,
        }  # fmt: skip


@dataclass
class Sweep:
    """A sweep: a grid over what its file lists, handed out in order."""

    config: dict[str, Any]
    handed_out: int = 0

    def next(self) -> dict[str, Any] | None:
        """The parameters of the next run; None where there is none left."""
        lists = [[(key, value) for value in item["values"]] for key, item in self.config["parameters"].items()]
        grid = [dict(pairs) for pairs in itertools.product(*lists)]
        self.handed_out += 1
        return grid[self.handed_out - 1] if self.handed_out <= len(grid) else None


class WandbServer:
    """Serves on ``url`` while its block lasts."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.artifacts: dict[str, dict[str, bytes]] = {}
        self.sweeps: dict[str, Sweep] = {}
        self.unknown: list[str] = []
        self._collections: dict[str, str] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), type("Bound", (_Handler,), {"stand_in": self}))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> WandbServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *reason: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Go down: from now on connections are refused."""
        self._server.shutdown()
        self._server.server_close()

    def query(self, text: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Answer one GraphQL request."""
        with self._lock:
            for sign, answer in _ANSWERS:
                if sign in text:
                    return {"data": answer(self, variables)}
            self.unknown.append(" ".join(text.split())[:2000])
            return {"data": {}, "errors": [{"message": "the stand-in does not know this request"}]}

    def stream(self, name: str, content: dict[str, Any]) -> None:
        """Take lines of a run's streams, each at its place."""
        with self._lock:
            streams = self.runs[name].streams
            if content.get("complete"):
                self.runs[name].exit_code = content.get("exitcode")
            for file, part in (content.get("files") or {}).items():
                lines = streams.setdefault(file, [])
                lines[part["offset"] :] = part["content"]

    def upload(self, path: str, content: bytes) -> None:
        """Take a file of a run or an artifact."""
        kind, owner, name = (unquote(part) for part in path.strip("/").split("/", 2))
        with self._lock:
            files = self.runs[owner].files if kind == "run" else self.artifacts[self._collections[owner]]
            files[name] = content

    def _viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        viewer = {"id": "VXNlcjox", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": {"edges": []}}
        versions = {"max_cli_version": "0.99.0"}
        return {
            "viewer": viewer,
            "serverInfo": {"cliVersionInfo": versions, "latestLocalVersionInfo": None, "features": []},
        }

    def _organisation(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def _begin(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["name"]
        inserted = name not in self.runs
        run = self.runs.setdefault(name, Run(name, variables.get("project") or ""))
        if variables.get("config"):
            run.config = json.loads(variables["config"])
        run.begun += 1
        run.sweep = variables.get("sweep") or run.sweep
        return {"upsertBucket": {"bucket": run.describe(), "inserted": inserted}}

    def _make_sweep(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = f"sweep{len(self.sweeps)}"
        self.sweeps[name] = Sweep(yaml.safe_load(variables["config"]))
        project = {"id": "UHJvag==", "name": variables["projectName"], "entity": {"id": "RW50", "name": ENTITY}}
        return {
            "upsertSweep": {"sweep": {"id": name, "name": name, "project": project}, "configValidationWarnings": []}
        }

    def _sweep(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["sweep"]
        config = yaml.safe_dump(self.sweeps[name].config)
        known = {
            "id": name,
            "name": name,
            "method": "grid",
            "state": "RUNNING",
            "config": config,
            "runs": {"edges": []},
        }
        return {"project": {"sweep": known}}

    def _agent(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"createAgent": {"agent": {"id": variables["sweep"]}}}

    def _heartbeat(self, variables: dict[str, Any]) -> dict[str, Any]:
        sweep = self.sweeps[variables["id"]]
        commands: list[dict[str, Any]] = []
        if not any(json.loads(variables.get("runState") or "{}").values()):
            values = sweep.next()
            args = {key: {"value": value} for key, value in (values or {}).items()}
            run = {
                "run_id": f"{variables['id']}-{sweep.handed_out}",
                "program": sweep.config.get("program"),
                "args": args,
            }
            commands = [{"type": "exit"} if values is None else {"type": "run", **run}]
        return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)}}

    def _resume(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(variables["name"])
        model: dict[str, Any] = {
            "id": "UHJvag==",
            "name": variables.get("project"),
            "entity": {"id": "RW50", "name": ENTITY},
        }
        if run is None:
            return {"model": model | {"bucket": None}}
        streams = {name: run.streams.get(f"wandb-{name}.jsonl", []) for name in ("history", "events")}
        counts = {f"{name}LineCount": len(lines) for name, lines in streams.items()}
        tails = {f"{name}Tail": json.dumps(lines[-1:]) for name, lines in streams.items()}
        more = {"summaryMetrics": json.dumps(run.summary), "tags": [], "group": None, "notes": None}
        return {"model": model | {"bucket": run.describe() | counts | tails | more | {"wandbConfig": '{"t": 1}'}}}

    def _run_files(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = variables["run"]
        files = [{"name": name, "uploadUrl": self._url("run", run, name)} for name in variables["files"]]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}

    def _artifact_type(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _artifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["input"]["artifactCollectionName"]
        identity = f"artifact{len(self._collections)}"
        self._collections[identity] = name
        self.artifacts[name] = {}
        return {
            "createArtifact": {
                "artifact": {"id": identity, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
            }
        }

    def _manifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        owner = variables.get("artifactID") or variables["input"]["artifactID"]
        file = {"id": "RmlsZQ==", "name": "wandb_manifest.json", "displayName": "wandb_manifest.json",
                "uploadUrl": self._url("artifact", owner, "wandb_manifest.json"), "uploadHeaders": []}  # fmt: skip
        return {"createArtifactManifest": {"artifactManifest": {"id": owner, "file": file}}}

    def _artifact_files(self, variables: dict[str, Any]) -> dict[str, Any]:
        wanted = variables.get("artifactFiles") or variables["input"]["artifactFiles"]
        nodes = [
            {
                "id": "RmlsZQ==",
                "name": each["name"],
                "displayName": each["name"],
                "storagePath": each["name"],
                "artifact": {"id": each["artifactID"]},
                "uploadUrl": self._url("artifact", each["artifactID"], each["name"]),
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
            }
            for each in wanted
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _commit(self, variables: dict[str, Any]) -> dict[str, Any]:
        owner = variables.get("artifactID") or variables["input"]["artifactID"]
        return {"commitArtifact": {"artifact": {"id": owner, "digest": ""}}}

    def _url(self, kind: str, owner: str, name: str) -> str:
        return f"{self.url}/{kind}/{owner}/{quote(name, safe='')}"


_Answer = Callable[[WandbServer, dict[str, Any]], dict[str, Any]]
# A sign that only such a request bears, and who answers it.
_ANSWERS: list[tuple[str, _Answer]] = [
    ("upsertSweep", WandbServer._make_sweep),
    ("query SweepWithRuns(", WandbServer._sweep),
    ("createAgent", WandbServer._agent),
    ("agentHeartbeat", WandbServer._heartbeat),
    ("upsertBucket", WandbServer._begin),
    ("createRunFiles", WandbServer._run_files),
    ("missingOk", WandbServer._resume),
    ("query ArtifactType(", WandbServer._artifact_type),
    ("createArtifactManifest(", WandbServer._manifest),
    ("createArtifactFiles(", WandbServer._artifact_files),
    ("commitArtifact(", WandbServer._commit),
    ("createArtifact(", WandbServer._artifact),
    ("coreWeaveOrganizationId", WandbServer._organisation),
    ("serverInfo", WandbServer._viewer),
    ("viewer", WandbServer._viewer),
]


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Let a client hang up as it likes."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stand_in: WandbServer

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer({})

    def do_PUT(self) -> None:
        self.stand_in.upload(self.path, self._body())
        self._answer({})

    def do_POST(self) -> None:
        body = self._body()
        if self.path.endswith("/graphql"):
            request = json.loads(body)
            self._answer(self.stand_in.query(request["query"], request.get("variables") or {}))
        elif self.path.endswith("file_stream"):
            self.stand_in.stream(self.path.split("/")[-2], json.loads(body or b"{}"))
            self._answer({"exitcode": None, "limits": {}})
        else:  # telemetry
            self._answer({})

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
