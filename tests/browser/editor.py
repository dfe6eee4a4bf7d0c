"""ComfyUI's real web editor in a headless Chromium, driven through its own JavaScript. Knows nothing of the pack."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Route

from tests.comfy_process import ComfyProcess

READY = """window.app && window.app.graph && window.app.vueAppReady !== false && window.LiteGraph
           && Object.keys(window.LiteGraph.registered_node_types).length > 100"""
FIT = """() => {
    const canvas = window.app.canvas, nodes = window.app.graph.nodes, margin = 60;
    const left = Math.min(...nodes.map(n => n.pos[0])), top = Math.min(...nodes.map(n => n.pos[1] - 30));
    const right = Math.max(...nodes.map(n => n.pos[0] + n.size[0]));
    const bottom = Math.max(...nodes.map(n => n.pos[1] + n.size[1]));
    const width = canvas.canvas.clientWidth, height = canvas.canvas.clientHeight;
    const scale = Math.min(1, (width - 2 * margin) / (right - left), (height - 2 * margin) / (bottom - top));
    canvas.ds.scale = scale;
    canvas.ds.offset = [(width / scale - right - left) / 2, (height / scale - bottom - top) / 2];
    canvas.setDirty(true, true);
}"""
QUEUE = """async seconds => {  // the events [kind, detail] of one press on Queue, the last of them its end
    const api = window.app.api, canvas = window.app.canvas, events = [], heard = [];
    const ends = ['execution_success', 'execution_error', 'execution_interrupted'];
    const ended = new Promise(resolve => {
        for (const kind of ['execution_start', 'executed', ...ends]) {
            const hear = event => { events.push([kind, event.detail]); if (ends.includes(kind)) resolve() };
            api.addEventListener(kind, hear);
            heard.push([kind, hear]);
        }
        setTimeout(() => { events.push(['no end', `within ${seconds} s`]); resolve() }, seconds * 1000);
    });
    canvas.pause_rendering = true;  // nobody looks, and the processor is ComfyUI's
    await window.app.queuePrompt(0);
    await ended;
    canvas.pause_rendering = false;
    heard.forEach(([kind, hear]) => api.removeEventListener(kind, hear));
    return events;
}"""
# Without a GPU, Chromium draws WebGL on the processor and keeps a whole core busy with it: an editor that stands still
# costs a second per second. Told that there is no GPU, it draws in two dimensions and costs a tenth of that.
LAUNCH_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-features=LocalNetworkAccessChecks",  # a page that a test answers with files comes from no network at all
]
SMALL = {"width": 640, "height": 360}  # pixels, while tests wait: less to draw
LARGE = {"width": 1700, "height": 950}  # of a screenshot
POLL_MILLISECONDS = 100  # playwright's own choice is every frame, which makes the page draw frames


class Editor:
    """One open editor page. `errors` holds every console error and uncaught exception since it was opened, or since
    `errors.clear()`."""

    def __init__(
        self,
        browser: Browser,
        comfy: ComfyProcess,
        seconds: float = 120.0,
        handle: Callable[[Route], None] | None = None,
    ):
        for name, value in (
            ("Comfy.TutorialCompleted", True),
            ("Comfy.Release.Status", "skipped"),
            ("Comfy.Release.Version", "99.0.0"),
            ("Comfy.VersionCompatibility.DisableWarnings", True),
        ):  # first visits open dialogs over the canvas
            comfy.post(f"/api/settings/{name}", value)
        self.errors: list[str] = []
        self.context = browser.new_context(viewport=SMALL, reduced_motion="reduce")
        self.page = self.context.new_page()
        self.page.set_default_timeout(seconds * 1000)
        self.page.on("console", self.hear)
        self.page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        if handle is not None:  # what the page asks for is answered there
            self.page.route("**/*", handle)
        self.page.goto(comfy.url, wait_until="domcontentloaded")
        self.page.wait_for_function(READY, polling=POLL_MILLISECONDS)

    def hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} [{message.location.get('url', '')}]")

    def close(self) -> None:
        self.context.close()

    def node_types(self) -> set[str]:
        return set(self.page.evaluate("Object.keys(window.LiteGraph.registered_node_types)"))

    def load(self, workflow: dict, name: str) -> None:
        """Open a workflow in UI format, as dropping its file on the canvas does."""
        script = "async ([workflow, name]) => { await window.app.loadGraphData(workflow, true, true, name) }"
        self.page.evaluate(script, [workflow, name])
        self.page.wait_for_timeout(500)

    def load_prompt(self, prompt: dict, name: str) -> None:
        """Open a prompt in API format; the editor makes a graph of it."""
        self.page.evaluate("async ([w, name]) => { await window.app.loadApiJson(w, name) }", [prompt, name])
        self.page.wait_for_timeout(500)

    def drop(self, file: Path) -> None:
        """Open a file, as dropping it on the canvas does."""
        script = """async ([bytes, name, type]) => {
            await window.app.handleFile(new File([Uint8Array.from(atob(bytes), c => c.charCodeAt(0))], name, {type}));
        }"""
        kind = mimetypes.guess_type(file.name)[0]
        self.page.evaluate(script, [base64.b64encode(file.read_bytes()).decode(), file.name, kind])
        self.page.wait_for_timeout(500)

    def serialize(self) -> dict:
        """The open workflow in UI format, as saving it does."""
        return self.page.evaluate("window.app.graph.serialize()")

    def to_prompt(self) -> dict:
        """The prompt that the editor would queue."""
        return self.page.evaluate("async () => (await window.app.graphToPrompt()).output")

    def broken_nodes(self) -> list[str]:
        """Types of nodes that are missing or marked as wrong."""
        return self.page.evaluate("""window.app.graph.nodes
            .filter(n => n.has_errors || !window.LiteGraph.registered_node_types[n.type]).map(n => n.type)""")

    def node_count(self) -> int:
        return self.page.evaluate("window.app.graph.nodes.length")

    def queue(self, seconds: float) -> list:
        """Press Queue, wait for the end, return the events [kind, detail]; the last is "no end" when it took longer."""
        return self.page.evaluate(QUEUE, seconds)

    def screenshot(self, path: Path) -> Path:
        """A picture of the whole graph."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.keyboard.press("Escape")
        self.page.set_viewport_size(LARGE)
        self.page.evaluate(FIT)
        self.page.wait_for_timeout(500)
        self.page.screenshot(path=path)
        self.page.set_viewport_size(SMALL)
        return path
