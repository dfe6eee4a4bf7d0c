"""The storyboard editor as a person uses it: by the mouse at what is seen, and by keys."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Locator, Page

from tests.browser.editor import POLL_MILLISECONDS, SMALL, Editor

NODE = "window.app.graph.nodes.find(node => node.type === 'LongreelStoryboard')"
OPENED = "window.app.graph.nodes.length > 0"  # a page that has just started still opens a workflow of its own
CHECKED = f"""() => {{ const editor = {NODE}.longreelEditor;
    return editor.element.isConnected && editor.checked === {NODE}.widgets.find(w => w.name === 'text').value }}"""
SHOW = """type => {  // one node in the middle of the window, at the canvas' own size
    const node = window.app.graph.nodes.find(node => node.type === type), canvas = window.app.canvas;
    canvas.ds.scale = 1;
    canvas.ds.offset = [90 - node.pos[0], 90 - node.pos[1]];
    canvas.setDirty(true, true);
}"""
SIZE = {"width": 760, "height": 660}  # pixels of the window while the editor is used


class Board:
    """The editor of the only Longreel Storyboard in the open graph."""

    def __init__(self, editor: Editor):
        self.editor, self.page = editor, editor.page
        self.page.set_viewport_size(SIZE)
        self.page.evaluate(SHOW, "LongreelStoryboard")
        for button in self.page.get_by_role("button", name="Dismiss", exact=True).all():
            button.click()  # ComfyUI misses the models of its own first workflow
        self.root = self.page.locator(".lr-editor:visible")
        self.root.wait_for()
        self.wait_until_checked()

    def close(self) -> None:
        self.page.set_viewport_size(SMALL)

    # --- what it holds ---

    @property
    def text(self) -> str:
        return self.page.evaluate(f"{NODE}.widgets.find(w => w.name === 'text').value")

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.text)

    @property
    def shots(self) -> list[dict[str, Any]]:
        return self.data["shots"]

    def write(self, text: str) -> None:
        """Put another text into the node, as loading one does."""
        self.page.evaluate(f"text => {{ {NODE}.widgets.find(w => w.name === 'text').value = text }}", text)
        self.wait_until_checked()

    def wait_until_checked(self) -> None:
        """Until the server has answered to what the node holds now, and that is shown."""
        self.page.wait_for_function(CHECKED, polling=POLL_MILLISECONDS)

    def evaluate(self, script: str) -> Any:
        """What a script says of `editor`, the one of this node."""
        return self.page.evaluate(f"() => {{ const editor = {NODE}.longreelEditor; return {script} }}")

    # --- what is seen ---

    def shot(self, number: int) -> Locator:
        """The block of a shot, from 1."""
        return self.root.locator(f'.lr-shot[data-index="{number - 1}"]')

    def joint(self, number: int) -> Locator:
        return self.root.locator(f'.lr-joint[data-index="{number - 1}"]')

    def field(self, label: str) -> Locator:
        return self.root.get_by_label(label, exact=True)

    @property
    def box(self) -> Locator:
        """The text box of the node, in either renderer."""
        script = """() => { const box = [...document.querySelectorAll('textarea')]
            .find(one => one.offsetParent && one.value.includes('"longreel"'));
            if (box) box.dataset.storyboard = 'yes'; return !!box }"""
        self.page.wait_for_function(script, polling=POLL_MILLISECONDS)
        return self.page.locator('textarea[data-storyboard="yes"]')

    @property
    def mistakes(self) -> list[str]:
        return self.root.locator(".lr-mistake").all_inner_texts()

    @property
    def states(self) -> list[str | None]:
        """What the last run made of each shot that is seen."""
        marks = "[...editor.element.querySelectorAll('.lr-shot')]"
        return self.evaluate(f"{marks}.map(one => one.querySelector('.lr-made')?.dataset.made ?? null)")

    # --- the mouse ---

    def drag(self, what: Locator, by: float, at: tuple[float, float] = (0.5, 0.5)) -> None:
        """Press at a place of what is seen (shares of its width and height), move, let go."""
        box = what.bounding_box()
        x, y = box["x"] + at[0] * box["width"], box["y"] + at[1] * box["height"]
        mouse = self.page.mouse
        mouse.move(x, y)
        mouse.down()
        mouse.move(x + by / 2, y)
        mouse.move(x + by, y)
        mouse.up()

    def drag_edge(self, number: int, by: float) -> None:
        width = self.shot(number).bounding_box()["width"]
        self.drag(self.shot(number), by, (1 - 3 / width, 0.3))

    # --- the keyboard ---

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)


def screenshot(page: Page, path, **clip: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path, **({"clip": clip} if clip else {}))
