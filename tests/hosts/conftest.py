"""Fixtures for tests that call ComfyUI in this process: ComfyUI itself and the tiny models of every family.

`tiny("wan21")` gives one model by its name, `every_tiny` runs a test once for each of them, and the newer ones among
them (NEWER) in the tests that they are given here. Loaded models are shared
by the whole session: patch a clone, never the model itself.
"""

from collections.abc import Callable, Iterator

import pytest
import torch

from tests.comfy_inprocess import import_comfyui
from tests.tiny_models import MODELS, LoadedTiny, TinyModel, make_tiny_models

# At import, before any test module beside this file can say `import comfy` or `import nodes`.
import_comfyui()

# Structures that the first eight do not have. Each is made of parts that those have, so they are given to the tests of
# what a family says of itself and of what reaches its network, and not to every one of the methods' properties.
NEWER = ("hunyuan_video15", "kandinsky5")
GIVEN_IN_FILES = ("test_tiny_models", "test_family", "test_short_memory", "test_wrong_inputs", "test_attention_size")
GIVEN_IN_TESTS = {
    "test_every_block_is_seen_once_per_forward_in_order",
    "test_grid_text_and_rows_are_those_of_the_attention",
    "test_maps_are_those_of_explicit_softmax_averaged_where_segments_overlap",
    "test_a_readers_output_is_attention_on_its_sources_keys_and_values",
    "test_sources_stand_where_placement_says",
    "test_a_copied_layout_is_attention_on_the_originals_keys_and_values",
    "test_at_weight_zero_the_video_hears_nothing_of_the_word",
    "test_each_layer_reads_what_its_mixer_makes_of_its_text",
    "test_features_are_what_the_network_makes_of_the_windows_first_frames",
    "test_the_chunks_after_the_first_read_the_memory_and_the_first_has_none",
    "test_the_result_holds_the_anchor_exactly_and_the_rest_follows_it",
    "test_joint_segments_take_the_anchor_along",
    "test_a_rollout_holds_anchors_in_the_chunks_that_they_fall_into",
    "test_a_noise_mask_keeps_what_it_covers",
    "test_longreel_sampler_equals_core_sampling_with_latent_blend",
    "test_a_chunk_continues_from_the_frames_before_it",
    "test_a_latent_to_work_on_is_cut_into_the_chunks_and_its_mask_is_honoured",
    "test_a_run_that_was_cut_off_goes_on_to_the_same_bits",
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the newer models where they are not given."""
    left_out = {item for item in items if _newer(item) and not _given(item)}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def _newer(item: pytest.Item) -> bool:
    return "every_tiny" in getattr(item, "fixturenames", ()) and item.callspec.params.get("every_tiny") in NEWER


def _given(item: pytest.Item) -> bool:
    return item.path.stem in GIVEN_IN_FILES or item.originalname in GIVEN_IN_TESTS


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Toy tensors gain nothing from a second thread, and lose much when another process wants the same core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_dead_models() -> Iterator[None]:
    """Let core forget patchers that went away with their parents, in a reference cycle of a test's watcher: it keeps
    them as loaded for as long as their network lives, and collects all garbage, a second of it, before each sampling.
    """
    yield
    from comfy import model_management

    entries = model_management.current_loaded_models
    entries[:] = [entry for entry in entries if not entry.is_dead()]


@pytest.fixture(scope="session")
def tiny_models() -> dict[str, TinyModel]:
    """Facts and files of every tiny model, by name; nothing is loaded."""
    return make_tiny_models()


@pytest.fixture(scope="session")
def tiny(tiny_models: dict[str, TinyModel]) -> Callable[[str], LoadedTiny]:
    """A function name -> (model, clip, vae), loaded by core's loaders at its first use."""
    loaded: dict[str, LoadedTiny] = {}

    def load(name: str) -> LoadedTiny:
        if name not in loaded:
            loaded[name] = tiny_models[name].load()
        return loaded[name]

    return load


@pytest.fixture(params=list(MODELS))
def every_tiny(request: pytest.FixtureRequest, tiny_models: dict[str, TinyModel]) -> TinyModel:
    """The facts of each tiny model in turn; `tiny(every_tiny.name)` loads it."""
    return tiny_models[request.param]
