"""Longreel Report shows its plot and text in its node; Longreel Compare plays two runs and takes a blind vote."""

from __future__ import annotations

import json

from longreel import dev
from longreel.engine.measure.video_file import write_video
from tests.browser.editor import LARGE, Editor
from tests.comfy_process import ComfyProcess
from tests.engine.measure.films import film
from tests.nodes.graphs import node

ARTIFACTS = dev.ROOT / "tests" / "artifacts" / "browser"
SET_RENDERER = "on => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"
PLOT_AND_TEXT = """() => {
    const node = window.app.graph.nodes.find(one => one.type === 'LongreelReport');
    const text = node.widgets.find(one => one.name === 'report_text');
    const plot = node.widgets.find(one => one.name === '$$canvas-image-preview');
    return [parseFloat(getComputedStyle(text.element).minHeight), text.computedHeight, text.y, plot.y];
}"""
SIDES = "[...document.querySelectorAll('.lr-compare-name')].map(one => one.textContent)"


def test_a_report_is_read_and_two_runs_are_compared_in_their_nodes(editor: Editor, comfy: ComfyProcess):
    files = [write_video([film(20, seed=n)], comfy.input_path, f"seen{n}", 1, 8.0, 10).path.name for n in (1, 2)]
    prompt = {
        "1": node("LoadVideo", file=files[0]),
        "2": node("LoadVideo", file=files[1]),
        "3": node("LongreelReport", video=["1", 0], fps=0.0, motion=False, cuts=False),
        "4": node(
            "LongreelCompare", video_a=["1", 0], video_b=["2", 0], name_a="memory", name_b="plain",
            comparison="seen in the editor", blind=True,
        ),
    }  # fmt: skip
    editor.errors.clear()  # those of opening the page are another test's
    editor.load_prompt(prompt, "compare")
    editor.page.set_viewport_size(LARGE)
    assert editor.queue(120)[-1][0] == "execution_success"
    report = editor.page.locator(".lr-planned:not(.lr-compare) pre")
    assert f"{files[0]}: 20 frames, 32 x 32 pixels, 8 fps" in report.text_content()
    assert editor.page.evaluate(SIDES) == ["Left", "Right"]
    assert editor.page.locator(".lr-compare video").count() == 2
    # Clicks by script: the canvas may lie over what a small window shows of a node.
    vote = "document.querySelector('.lr-compare > button')"
    lefts = "[...document.querySelectorAll('.lr-compare-axis [data-choice=left]')]"
    choose = lefts + ".slice({}).forEach(one => one.click())"
    editor.page.evaluate(choose.format("0, 3"))
    assert editor.page.evaluate(f"{vote}.disabled")
    editor.page.evaluate(choose.format("3"))
    editor.page.evaluate(f"{vote}.click()")
    editor.page.wait_for_function(f"{SIDES}.join() !== 'Left,Right'")
    left, right = editor.page.evaluate(SIDES)
    assert {left, right} == {"memory", "plain"}
    page = (comfy.output_path / "longreel" / "seen in the editor" / "votes.json").read_text(encoding="utf-8")
    kept = json.loads(page)["votes"]
    assert [(one["left"], one["choice"]) for one in kept] == [(left, "left")] * 4
    assert f"  {left}" in editor.page.locator(".lr-compare pre").text_content().splitlines()[1]
    editor.screenshot(ARTIFACTS / "report_and_compare.png")
    least, height, text_top, plot_top = editor.page.evaluate(PLOT_AND_TEXT)
    assert 100 < least <= height and text_top + height <= plot_top  # the text does not lie over the plot
    in_nodes_2(editor)
    assert [error for error in editor.errors if ".mp4" not in error] == []


def in_nodes_2(editor: Editor) -> None:
    """Look at both nodes where ComfyUI draws nodes with Vue: the plot is a picture, and the page of a vote is there."""
    editor.page.evaluate(SET_RENDERER, True)
    try:
        editor.page.wait_for_selector(".lg-node .lr-compare video")
        compare, report = (
            editor.page.locator(".lg-node").filter(has=editor.page.locator(place))
            for place in (".lr-compare", ".lr-planned:not(.lr-compare)")
        )
        assert compare.locator(".lr-compare-axis").first.bounding_box()["height"] > 5
        assert "seen in the editor" in [one.input_value() for one in compare.locator("input[type=text]").all()]
        report.locator("img[src*=ComfyUI_temp]").first.wait_for()
        assert report.locator("video").count() == 0
        editor.screenshot(ARTIFACTS / "report_and_compare_nodes_2.png")
    finally:
        editor.page.evaluate(SET_RENDERER, False)
