"""The storyboards of the ready workflows, as text for Longreel Storyboard."""

import json

FOX = (
    "a red fox with a white-tipped tail and a blue scarf trots through a snowy pine forest, soft morning light",
    "the red fox with the blue scarf stops at a frozen stream and looks at its reflection, snow falls",
    "close-up of the red fox with the blue scarf, its breath steams in the cold air, it pricks up its ears",
    "the red fox with the blue scarf runs up a hill towards a warm cottage window, evening, long shadows",
)
WATERFALL = (
    "slow camera move towards a waterfall in a green valley, mist rises, birds circle",
    "the camera glides over the edge and follows the falling water into the pool",
    "sunlight breaks through the mist above the pool, a rainbow appears",
)
PICTURE = (
    "the scene of the picture comes to life, gentle natural movement, the camera moves in slowly",
    "the camera circles to the right, the light changes slowly, gentle natural movement",
    "the camera moves back, a soft wind passes through the scene, gentle natural movement",
)
SPEAKER = (
    "the person of the picture speaks to the camera, calm and friendly, natural gestures",
    "the person of the picture speaks with enthusiasm, lively gestures, looks to the side for a moment",
    "the person of the picture ends the speech, smiles and nods",
)
PAINTED = (
    "the scene as a hand-painted watercolour film, paper grain, soft edges",
    "the scene as a hand-painted watercolour film at dusk, paper grain, soft edges",
)
STYLE = "cinematic, natural colours, detailed"
NEGATIVE = "blurry, distorted, deformed, low quality, static, text, subtitles, watermark"


def storyboard(
    title: str, prompts: tuple[str, ...], *, seconds: float, fps: int, width: int, height: int,
    transition: str = "cut", style: str = STYLE, picture: str = "",
) -> str:  # fmt: skip
    """Return shots of equal length; `picture`, in the input folder, is what the first one starts with."""
    lines = []
    for number, prompt in enumerate(prompts):
        shot = {"prompt": prompt, "seconds": seconds}
        if number:
            shot["transition"] = transition
        elif picture:
            shot["anchors"] = [{"at": 0, "image": picture}]
        lines.append("    " + json.dumps(shot))
    board = {"title": title, "fps": fps, "width": width, "height": height, "seed": 7, "style": style}
    head = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in board.items())
    shots = ",\n".join(lines)
    return f'{{\n  "longreel": 1,\n{head},\n  "negative": {json.dumps(NEGATIVE)},\n  "shots": [\n{shots}\n  ]\n}}\n'
