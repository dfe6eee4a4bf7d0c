"""docs/core_names.md is what the code uses, and this ComfyUI has all of it."""

import pytest

from tests import core_keys, core_names


@pytest.mark.slow
def test_page_of_cores_names_is_what_the_code_uses():
    written = core_names.PAGE.read_text("utf-8")
    if f"ComfyUI {core_names.version()}." not in written:
        pytest.skip(f"signatures of ComfyUI {core_names.version()} are not those that the page shows")
    now = core_names.page()
    differ = sorted(set(written.splitlines()) ^ set(now.splitlines()))
    assert written == now, f"write docs/core_names.md anew with `{core_names.COMMAND}`; lines that differ: {differ[:6]}"


@pytest.mark.slow
def test_this_comfyui_has_every_name_that_the_pack_uses():
    missing = {}
    for name, files in core_names.by_name().items():
        try:
            core_names.resolve(name)
        except core_names.Missing as error:
            missing[name] = (str(error), files)
    assert missing == {}


def test_a_name_that_core_lacks_is_found(tmp_path):
    file = tmp_path / "uses.py"
    file.write_text("import comfy.samplers\n\ncomfy.samplers.CFGGuider.renamed()\n")
    (name,) = core_names.used(file) - {"comfy.samplers"}
    with pytest.raises(core_names.Missing, match="no comfy.samplers.CFGGuider.renamed"):
        core_names.resolve(name)


def test_what_a_class_and_a_parameter_take_from_core_is_found(tmp_path):
    file = tmp_path / "uses.py"
    file.write_text(
        "from comfy.samplers import Sampler, CFGGuider\n"
        "class Mine(Sampler):\n"
        "    def sample(self): return self.max_denoise\n"
        "    def own(self): return self.mine\n"
        "def ask(guider: CFGGuider): return guider.conds, guider.set_cfg(1)\n"
    )
    expected = {"Sampler", "Sampler.sample", "Sampler.max_denoise", "CFGGuider", "CFGGuider.conds", "CFGGuider.set_cfg"}
    assert core_names.used(file) == {f"comfy.samplers.{name}" for name in expected}


def test_every_key_of_cores_containers_that_the_code_reads_is_listed():
    assert core_keys.unlisted_keys() == {}


def test_every_listed_key_is_read_here_and_known_to_core():
    assert [key for key in core_keys.CORE_KEYS if not core_keys.files_with(key)] == []
    assert set(core_keys.CORE_KEYS) - core_keys.known_to_core(core_keys.CORE_KEYS) == set()
