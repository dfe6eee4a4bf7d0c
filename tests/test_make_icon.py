"""The registry's pictures are in the repository, where pyproject.toml says, in the sizes that the registry takes."""

from __future__ import annotations

import re

from PIL import Image

from longreel import dev


def test_icon_and_banner_are_where_the_registry_looks():
    text = (dev.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    repository = re.search(r'^Repository = "https://github.com/(.+)"$', text, re.MULTILINE)[1]
    address = rf"https://raw\.githubusercontent\.com/{re.escape(repository)}/main/(.+)"
    found = dict(re.findall(rf'^(Icon|Banner) = "{address}"', text, re.MULTILINE))
    sizes = {name: Image.open(dev.ROOT / path).size for name, path in found.items()}
    assert sizes == {"Icon": (400, 400), "Banner": (1260, 540)}
