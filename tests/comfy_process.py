"""A real ComfyUI process to test against, with a base folder of its own, driven through its HTTP API.

    python -m tests.comfy_process run WORKFLOW.json [--keep FOLDER]     what `dev.py demo` does
    python -m tests.comfy_process edit [ComfyUI arguments]              what `dev.py comfy` does

Knows how to start, feed, watch and end the process. Knows nothing about the nodes of the pack.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from longreel import dev
from tests.ui_to_api import WorkflowError, ui_to_api

if TYPE_CHECKING:
    from typing_extensions import Self  # of typing itself from Python 3.11 on

Listener = Callable[[str, Any], None]  # message type ("progress", "executed", ..., "preview") and its data
LOG_TAIL_LINES = 40
ARTIFACTS = dev.ROOT / "tests" / "artifacts"
PACK_FOLDER_NAME = "any-name"  # a hyphen, so that no import may depend on what the folder is called


class ComfyError(RuntimeError):
    """ComfyUI did not start, refused a prompt, or failed while running it; the message holds what it said."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def link_folder(link: Path, target: Path) -> None:
    """Make `link` show what is in `target`; a junction on Windows, where links need rights."""
    if os.name == "nt":
        import _winapi

        _winapi.CreateJunction(str(target), str(link))
    else:
        link.symlink_to(target, target_is_directory=True)


def server_arguments(port: int, base: Path) -> list[str]:
    """What every ComfyUI of ours is started with. No GPU, then the CPU; its attention is torch's in both cases."""
    device = [] if dev.has_nvidia_gpu() else ["--cpu"]
    return [
        "--listen",
        "127.0.0.1",
        "--port",
        str(port),
        "--base-directory",
        str(base),
        "--disable-auto-launch",
        "--disable-api-nodes",
        "--use-pytorch-cross-attention",
        "--preview-method",
        "latent2rgb",
        *device,
    ]


def lay_out(base: Path, packs: Mapping[str, Path]) -> None:
    """Make the folders that ComfyUI expects under its base folder, and show it the packs."""
    for name in ("models", "input", "output", "temp", "user", "custom_nodes"):
        (base / name).mkdir(parents=True, exist_ok=True)
    for name, folder in packs.items():
        link = base / "custom_nodes" / name
        if not link.exists():
            link_folder(link, folder)


class ComfyProcess:
    """A running ComfyUI. Use as a context manager; its folder goes with it unless `base` names one to keep.

    Args:
        comfyui: a ComfyUI checkout; the one that dev.py set up when None.
        folder_name: what the pack's folder is called in custom_nodes, where it must work under any name; None leaves it
            out.
        packs: further node packs, folder name in custom_nodes -> folder.
        model_folders: model kind ("vae", "diffusion_models", ...) -> folder to look in as well.
        arguments: further arguments for main.py.
        base: folder for models, input, output; a temporary one when None.
        seconds_to_start: how long to wait until it answers.
    """

    def __init__(
        self,
        comfyui: Path | None = None,
        folder_name: str | None = PACK_FOLDER_NAME,
        packs: Mapping[str, Path] = {},
        model_folders: Mapping[str, Path] = {},
        arguments: tuple[str, ...] = (),
        base: Path | None = None,
        seconds_to_start: float = 300.0,
    ):
        self.comfyui = comfyui or dev.comfyui_path()
        self.packs = {**({} if folder_name is None else {folder_name: dev.ROOT}), **packs}
        self.model_folders = dict(model_folders)
        self.arguments = arguments
        self.kept_base = base
        self.seconds_to_start = seconds_to_start
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> Self:
        self.base = self.kept_base or Path(tempfile.mkdtemp(prefix="longreel-comfyui-"))
        lay_out(self.base, self.packs)
        self.log_path = self.base / "comfyui.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [
            sys.executable,
            "main.py",
            *server_arguments(self.port, self.base),
            "--database-url",
            "sqlite:///:memory:",
            *self.arguments,
        ]
        if self.model_folders:
            paths = self.base / "extra_model_paths.yaml"  # JSON is YAML
            paths.write_text(json.dumps({"tests": {kind: str(path) for kind, path in self.model_folders.items()}}))
            command += ["--extra-model-paths-config", str(paths)]
        self.log_file = self.log_path.open("w", encoding="utf-8")
        self.process = subprocess.Popen(
            command,
            cwd=self.comfyui,
            stdin=subprocess.DEVNULL,
            stdout=self.log_file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            self.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.terminate()
                try:
                    self.process.wait(15)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
            self.process = None
            self.log_file.close()
        if self.kept_base is None:
            for link in (self.base / "custom_nodes").iterdir():
                if os.name == "nt" and link.is_dir():
                    link.rmdir()  # a junction; rmtree would follow it into the pack
            shutil.rmtree(self.base, ignore_errors=True)

    def wait_until_ready(self) -> None:
        end = time.monotonic() + self.seconds_to_start
        while time.monotonic() < end:
            self.check_alive()
            try:
                self.get("/system_stats", timeout=5)
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
            else:
                return
        raise ComfyError(
            f"ComfyUI did not answer within {self.seconds_to_start:.0f} s. Its log ends with:\n{self.log_tail()}"
        )

    def check_alive(self) -> None:
        if self.process is None or self.process.poll() is not None:
            code = None if self.process is None else self.process.returncode
            raise ComfyError(f"ComfyUI ended with exit code {code}. Its log ends with:\n{self.log_tail()}")

    # --- what it says ---

    @property
    def log(self) -> str:
        """Everything that the process printed so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        return "\n".join(self.log.splitlines()[-lines:])

    @property
    def output_path(self) -> Path:
        """The folder that saving nodes write to."""
        return self.base / "output"

    @property
    def input_path(self) -> Path:
        """The folder that loading nodes read from."""
        return self.base / "input"

    def files(self, outputs: dict) -> list[Path]:
        """The saved files that a run's outputs speak of."""
        entries = [
            entry
            for node in outputs.values()
            for values in node.values()
            if isinstance(values, list)
            for entry in values
            if isinstance(entry, dict) and "filename" in entry
        ]
        return [
            self.base / entry.get("type", "output") / entry.get("subfolder", "") / entry["filename"]
            for entry in entries
        ]

    def get(self, path: str, timeout: float = 60.0) -> Any:
        """The JSON, or else the bytes, that a route answers."""
        with urllib.request.urlopen(self.url + path, timeout=timeout) as answer:
            body = answer.read()
            return json.loads(body) if "json" in answer.headers.get("Content-Type", "") else body

    def post(self, path: str, value: Any, timeout: float = 60.0) -> Any:
        request = urllib.request.Request(
            self.url + path,
            data=json.dumps(value).encode(),
            headers={"Content-Type": "application/json"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            body = answer.read()
            return json.loads(body) if body and "json" in answer.headers.get("Content-Type", "") else body

    def object_info(self, node_id: str | None = None) -> dict:
        """The definitions of all nodes, or of one."""
        return self.get(f"/object_info/{node_id}" if node_id else "/object_info")

    # --- what it does ---

    def to_prompt(self, workflow: dict) -> dict:
        """A prompt, from a prompt or from a workflow as the editor saves it."""
        return ui_to_api(workflow, self.object_info()) if "nodes" in workflow and "links" in workflow else workflow

    def validation_errors(self, prompt: dict) -> dict | None:
        """What POST /prompt objects to, or None when it takes the prompt (which is then removed from the queue)."""
        try:
            answer = self.post("/prompt", {"prompt": prompt})
        except urllib.error.HTTPError as error:
            return json.loads(error.read())
        while self.in_queue(answer["prompt_id"]):  # it may begin between the two, and takes no interrupt before it has
            self.post("/queue", {"delete": [answer["prompt_id"]]})
            self.interrupt(answer["prompt_id"])
            time.sleep(0.05)
        return None

    def in_queue(self, prompt_id: str) -> bool:
        """Whether a prompt waits or runs."""
        queue = self.get("/queue")
        return any(entry[1] == prompt_id for entry in (*queue["queue_running"], *queue["queue_pending"]))

    def kill(self) -> None:
        """End the process at once, in the middle of whatever it does. Its base folder stays until the block ends."""
        self.process.kill()
        self.process.wait()

    def interrupt(self, prompt_id: str | None = None) -> None:
        """Stop the prompt that is running."""
        self.post("/interrupt", {"prompt_id": prompt_id} if prompt_id else {})

    def run(self, prompt: dict, timeout: float = 300.0, listen: Listener | None = None) -> dict:
        """Queue a prompt or a UI workflow, wait for its end and return its outputs by node id.

        Args:
            timeout: seconds; then the prompt is interrupted and ComfyError raised.
            listen: called with (type, data) for every message of the websocket, ("preview", bytes) for previews.

        Raises:
            ComfyError: refused, failed, interrupted or too slow; with the node and what it said.
        """
        prompt = self.to_prompt(prompt)
        outcome: list = []

        def work() -> None:  # a thread of its own, because a test may already run an event loop in this one
            try:
                outcome.append(asyncio.run(self._run(prompt, timeout, listen)))
            except BaseException as error:  # noqa: BLE001  raised again by the thread that waits
                outcome.append(error)

        thread = threading.Thread(target=work, name="comfy-run", daemon=True)
        thread.start()
        thread.join()
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    async def _run(self, prompt: dict, timeout: float, listen: Listener | None) -> dict:
        client = str(uuid.uuid4())
        socket_options = {"max_msg_size": 0, "heartbeat": None}
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{self.url}/ws?clientId={client}", **socket_options) as messages,
        ):
            async with session.post(f"{self.url}/prompt", json={"prompt": prompt, "client_id": client}) as answer:
                body = await answer.json()
                if answer.status != 200:
                    raise ComfyError(refusal(body))
            prompt_id = body["prompt_id"]
            try:
                await asyncio.wait_for(self._follow(messages, prompt_id, listen), timeout)
            except asyncio.TimeoutError as error:
                self.interrupt(prompt_id)
                raise ComfyError(
                    f"the prompt did not end within {timeout:.0f} s. ComfyUI's log ends with:\n{self.log_tail()}"
                ) from error
            for _ in range(100):  # the history is written just after the last message
                async with session.get(f"{self.url}/history/{prompt_id}") as answer:
                    history = (await answer.json()).get(prompt_id)
                if history:
                    return history["outputs"]
                await asyncio.sleep(0.05)
        raise ComfyError(f"ComfyUI kept no history of the prompt. Its log ends with:\n{self.log_tail()}")

    async def _follow(self, messages: aiohttp.ClientWebSocketResponse, prompt_id: str, listen: Listener | None) -> None:
        while True:
            try:
                message = await messages.receive(timeout=5)
            except asyncio.TimeoutError:
                self.check_alive()
                continue
            if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR):
                await asyncio.sleep(0.5)
                self.check_alive()
                raise ComfyError(f"ComfyUI closed the connection. Its log ends with:\n{self.log_tail()}")
            if message.type == aiohttp.WSMsgType.BINARY:
                if listen:
                    listen("preview", message.data)
                continue
            event = json.loads(message.data)
            kind, data = event["type"], event["data"]
            if listen:
                listen(kind, data)
            if data.get("prompt_id") != prompt_id:
                continue
            if kind == "execution_error":
                raise ComfyError(
                    f"{data['node_type']} (node {data['node_id']}): {data['exception_message'].strip()}\n"
                    + "".join(data.get("traceback", []))
                )
            if kind == "execution_interrupted":
                raise ComfyError(f"interrupted in {data['node_type']} (node {data['node_id']})")
            if kind == "execution_success":
                return


def refusal(body: dict) -> str:
    """One line per thing that ComfyUI's validation objects to."""
    error = body.get("error", {})
    lines = [f"{error.get('message', 'refused')}. {error.get('details', '')}".strip()]
    for node_id, node in (body.get("node_errors") or {}).items():
        lines += [
            f"{node['class_type']} (node {node_id}): {entry['message']}: {entry['details']}" for entry in node["errors"]
        ]
    return "\n".join(lines)


# --- for dev.py ------------------------------------------------------------------------------------------------------


class ProgressBar:
    """One line that says which node is running and how far it is; plain lines where there is no terminal."""

    WIDTH = 30

    def __init__(self) -> None:
        self.titles: dict[str, str] = {}
        self.last = ""
        self.node = ""
        self.live = sys.stdout.isatty()

    def __call__(self, kind: str, data: Any) -> None:
        if kind == "executing" and data.get("node"):
            self.show(data["node"], 0, 0)
        elif kind == "progress":
            self.show(data.get("node") or self.node, data["value"], data["max"])

    def show(self, node: str, value: float, maximum: float) -> None:
        self.node = node
        share = value / maximum if maximum else 0.0
        if not self.live and 0 < share < 1 and int(share * 4) == int((value - 1) / maximum * 4):
            return  # a log keeps every quarter
        filled = round(share * self.WIDTH)
        bar = f"[{'#' * filled}{'.' * (self.WIDTH - filled)}] {value:g}/{maximum:g}  " if maximum else ""
        line = f"  {bar}{self.titles.get(node, node)}"[:100]
        if line != self.last:
            print(f"\r{line:<100}" if self.live else line, end="" if self.live else "\n", flush=True)
            self.last = line

    def close(self) -> None:
        if self.live and self.last:
            print(flush=True)


def run_workflow(path: Path, keep: Path) -> int:
    """Run one workflow in a ComfyUI of its own, copy what it saved to `keep`, print where it is."""
    workflow = json.loads(path.read_text(encoding="utf-8"))
    start = time.monotonic()
    dev.say("starting ComfyUI")
    with ComfyProcess(folder_name="longreel") as comfy:
        dev.say(f"running {path.name}")
        bar = ProgressBar()
        try:
            prompt = comfy.to_prompt(workflow)
            bar.titles = {node_id: node.get("_meta", {}).get("title", node_id) for node_id, node in prompt.items()}
            outputs = comfy.run(prompt, timeout=3600, listen=bar)
        except (ComfyError, WorkflowError):
            print(f"\nComfyUI's log ends with:\n{comfy.log_tail()}", file=sys.stderr)
            raise
        finally:
            bar.close()
        files = [file for file in comfy.files(outputs) if file.is_relative_to(comfy.output_path)]
        keep.mkdir(parents=True, exist_ok=True)
        kept = [Path(shutil.copy2(file, keep / file.name)) for file in files]
    if not kept:
        raise ComfyError(f"{path.name} ran, but saved no file")
    dev.say(f"done in {time.monotonic() - start:.0f} s")
    for file in sorted(kept, key=lambda file: file.suffix == ".mp4"):
        print(file)
    return 0


def asked_port(arguments: list[str]) -> int | None:
    """The port that arguments for ComfyUI ask for, or None where they leave it to us."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--port", type=int)
    return parser.parse_known_args(arguments)[0].port


def edit(arguments: list[str]) -> int:
    """Run ComfyUI with the pack for a person, until they stop it. Its folder stays: .comfyui/editor."""
    base = dev.COMFYUI_HOME / "editor"
    lay_out(base, {"longreel": dev.ROOT})
    port = asked_port(arguments)
    if port is None:
        with socket.socket() as probe:
            taken = probe.connect_ex(("127.0.0.1", 8188)) == 0
        port = free_port() if taken else 8188
    command = [sys.executable, "main.py", *server_arguments(port, base)]
    external = dev.external_comfyui()
    if external:  # see the models of that ComfyUI too
        kinds = {folder.name: folder.name for folder in sorted((external / "models").iterdir()) if folder.is_dir()}
        paths = base / "extra_model_paths.yaml"
        paths.write_text(json.dumps({"external": {"base_path": str(external / "models"), **kinds}}))
        command += ["--extra-model-paths-config", str(paths)]
    dev.say(f"the editor is at http://127.0.0.1:{port} once ComfyUI has started; stop it with Ctrl+C")
    dev.say(f"models, input and output are in {base}")
    return subprocess.run([*command, *arguments], cwd=dev.comfyui_path()).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run one workflow and keep what it saves")
    run.add_argument("workflow", type=Path)
    run.add_argument("--keep", type=Path, default=ARTIFACTS / "demo", help="folder for the results")
    commands.add_parser("edit", help="open the editor")
    arguments, rest = parser.parse_known_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended from outside, the server goes along
    try:
        if arguments.command == "edit":
            return edit(rest)
        if not arguments.workflow.is_file():
            raise ComfyError(f"there is no workflow {arguments.workflow}")
        return run_workflow(arguments.workflow, arguments.keep)
    except (ComfyError, WorkflowError, json.JSONDecodeError) as error:
        print(f"longreel: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
