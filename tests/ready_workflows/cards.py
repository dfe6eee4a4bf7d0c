"""Draw the card of a ready workflow for ComfyUI's template browser: the model's name and what the graph makes.

No picture of a result: none of these models has been run by us, and another model's frames would be a lie.
"""

from PIL import Image, ImageDraw, ImageFont

from tests.ready_workflows.graph import COLOURS

SIDE, MARGIN, BAR = 512, 40, 14  # pixels
BACKGROUND, BRIGHT, DIM = (24, 26, 30), (240, 240, 240), (165, 170, 178)


def title_of(workflow: dict) -> tuple[str, str]:
    """Return the model and what is made with it, from the heading of the workflow's note."""
    (note,) = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    heading = note["widgets_values"][0].splitlines()[0].removeprefix("### ")
    model, _, what = heading.partition(", ")
    return model, what


def card(workflow: dict) -> Image.Image:
    """Return the card of a workflow."""
    image = Image.new("RGB", (SIDE, SIDE), BACKGROUND)
    draw = ImageDraw.Draw(image)
    width = (SIDE - 2 * MARGIN) / len(COLOURS)
    for number, colour in enumerate(COLOURS.values()):
        left = MARGIN + number * width
        draw.rectangle((left, MARGIN, left + width - 8, MARGIN + BAR), fill=colour)
    model, what = title_of(workflow)
    y = _write(draw, model, y=150, size=54, colour=BRIGHT)
    _write(draw, what, y=y + 24, size=36, colour=DIM)
    draw.text((MARGIN, SIDE - MARGIN - 26), "Longreel", font=ImageFont.load_default(26), fill=DIM)
    return image


def _write(draw: ImageDraw.ImageDraw, text: str, *, y: int, size: int, colour: tuple[int, int, int]) -> int:
    """Write text in lines that fit, and return where the next line would be."""
    font, line = ImageFont.load_default(size), ""
    for word in [*text.split(), None]:
        longer = f"{line} {word}".strip() if word else None
        if longer and draw.textlength(longer, font) <= SIDE - 2 * MARGIN:
            line = longer
            continue
        draw.text((MARGIN, y), line, font=font, fill=colour)
        y, line = y + int(1.25 * size), word
    return y
