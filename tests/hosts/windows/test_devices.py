"""hosts/windows/devices.py: the segments of joint sampling on core's clones of a MODEL, each whole on one device."""

import dataclasses
import logging
import threading
import time

import pytest
import torch

import comfy.model_management
import comfy.multigpu
from comfy.patcher_extension import WrappersMP

from longreel.engine.attention.kv_share import FIRST, PREVIOUS
from longreel.hosts.attention import patching
from longreel.hosts.features import prompt_edit
from longreel.hosts.features.focus import Mask
from longreel.hosts.features.focus_preview import LookForWords
from longreel.hosts.features.kv_share import FAST, PAPER
from longreel.hosts.features.prompt_edit import Layout, PromptEdit
from longreel.hosts.sampling import refine
from longreel.hosts.windows import latent_blend
from longreel.hosts.windows.devices import SegmentsOnDevices
from tests import tiny_sampling
from tests.hosts.features.test_kv_share import PLAIN
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import empty, encode, timeline_for
from tests.two_devices import Places, on_devices


class Seen:
    """A DIFFUSION_MODEL wrapper that notes of each forward its network, thread, device and rows."""

    def __init__(self):
        self.calls, self.sigmas, self.lock = [], [], threading.Lock()

    def __call__(self, executor, x, *args, **kwargs):
        options = next(value for value in (*args, *kwargs.values()) if isinstance(value, dict) and "sigmas" in value)
        call = id(executor.class_obj), threading.get_ident(), options.get("multigpu_thread_device"), len(x)
        with self.lock:
            self.calls.append(call)
            self.sigmas.append(options["sample_sigmas"])
        return executor(x, *args, **kwargs)

    @property
    def forwards_of_networks(self) -> list[int]:
        """How many forwards each network had."""
        networks = [network for network, *_ in self.calls]
        return [networks.count(network) for network in sorted(set(networks))]


def sampled(loaded, model, timeline, **options):
    positive, negative = encode(loaded, timeline)
    seen, model = Seen(), model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "seen", seen)
    out = tiny_sampling.sample(model, positive, negative, empty(timeline), **{"steps": 2, **options})
    return out, seen


def blended(loaded, timeline, *features):
    model = loaded.model
    for feature in features:
        model = patching.attach(model, feature)
    return latent_blend.attach(model, timeline, "triangle")


@pytest.mark.parametrize("name", ["wan21", "cogvideox15", "hunyuan_video", "ltxv"])
def test_two_devices_give_what_one_gives_to_the_bit(tiny, name):
    loaded = tiny(name)
    timeline = timeline_for(loaded.model)
    model = blended(loaded, timeline)
    one, seen_by_one = sampled(loaded, model, timeline)
    places = Places()
    with places.followed():
        two, seen = sampled(loaded, on_devices(model), timeline)
    assert torch.equal(one, two)
    assert seen_by_one.forwards_of_networks == [8] and seen.forwards_of_networks == [4, 4]
    assert {rows for *_, rows in seen.calls} == {2}  # prompt and negative prompt together, as on one device
    assert threading.get_ident() not in {thread for _, thread, _, _ in seen.calls}
    assert places.mixed == [] and places.marked > 100
    assert {(str(call[2]), places.of(sigmas)) for call, sigmas in zip(seen.calls, seen.sigmas, strict=True)} == {
        ("cpu", None),
        ("cpu:0", "cpu:0"),
    }


@pytest.mark.parametrize("count", [2, 3])
def test_without_guidance_segments_are_divided_too(tiny, count):
    """Core itself divides nothing at cfg 1, and never among three."""
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model)
    model = blended(loaded, timeline)
    one, _ = sampled(loaded, model, timeline, cfg=1.0)
    several, seen = sampled(loaded, on_devices(model, count), timeline, cfg=1.0)
    assert torch.equal(one, several)
    assert sorted(seen.forwards_of_networks) == {2: [4, 4], 3: [2, 2, 4]}[count]


def test_a_device_that_is_said_to_be_faster_gets_more(tiny):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model, segment=3, overlap=1)
    model = blended(loaded, timeline)
    _, even = sampled(loaded, on_devices(model), timeline)
    _, uneven = sampled(loaded, on_devices(model, speeds={0: 3.0}), timeline)
    assert abs(even.forwards_of_networks[0] - even.forwards_of_networks[1]) <= 2
    assert max(uneven.forwards_of_networks) > 1.5 * min(uneven.forwards_of_networks)


@pytest.mark.parametrize("mode", [FAST, PAPER])
def test_a_source_is_evaluated_again_on_each_device(tiny, mode):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model)
    model = blended(loaded, timeline, dataclasses.replace(PLAIN, mode=mode, source=FIRST))
    one, seen_by_one = sampled(loaded, model, timeline)
    two, seen = sampled(loaded, on_devices(model), timeline)
    assert torch.equal(one, two)
    places = Places()
    with places.followed():
        assert torch.equal(one, sampled(loaded, on_devices(model, 3), timeline)[0])
    assert places.mixed == []  # each device reads keys of its own
    (forwards,) = seen_by_one.forwards_of_networks
    assert len(seen.forwards_of_networks) == 2
    assert forwards < sum(seen.forwards_of_networks) and max(seen.forwards_of_networks) < forwards


def test_what_needs_segments_in_order_has_them_so_and_the_log_says_why(tiny, caplog):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model)
    looks = LookForWords(timeline, Mask(("scene",), 0.5), frozenset({1}))
    chain = dataclasses.replace(PLAIN, source=PREVIOUS)
    for features, why in (((chain,), "segments that each read from the one before"), ((looks,), "Focus")):
        model = blended(loaded, timeline, *features)
        one, _ = sampled(loaded, model, timeline)
        with caplog.at_level(logging.WARNING):
            two, _ = sampled(loaded, on_devices(model), timeline)
        assert torch.equal(one, two) or (one - two).abs().max() < 1e-4  # core divides the prompts, other products
        said = [record.getMessage() for record in caplog.records if "one after the other" in record.getMessage()]
        assert len(said) == 1 and why in said[0] and "2 devices" in said[0]
        caplog.clear()


def test_an_error_is_raised_when_no_thread_works_any_more():
    devices = [torch.device("cpu"), torch.device("cpu", 0)]
    pool = comfy.multigpu.MultiGPUThreadPool(devices)
    handed_out, busy = SegmentsOnDevices(pool, [*devices, devices[1]]), threading.Event()

    def fail():
        handed_out.failed.set()
        raise ValueError("of the second segment")

    def work():
        busy.set()
        time.sleep(0.2)
        busy.clear()

    for device, do in zip(handed_out.devices, (lambda: "made", fail, work), strict=True):
        pool.submit(device, do)
    with pytest.raises(ValueError, match="of the second segment"):
        for number in range(3):
            handed_out.result(number)
    assert not busy.is_set() and all(pool._result_queues[device].empty() for device in devices)
    pool.shutdown()


def test_results_are_taken_in_order():
    with pytest.raises(RuntimeError, match="segment 2 is asked for, and 1 is next"):
        SegmentsOnDevices(None, [torch.device("cpu")] * 2).result(1)


@pytest.mark.parametrize("devices_first", [False, True])
def test_an_edit_beside_its_original(tiny, devices_first):
    """The original is sampled with the edit taken out, and what it was shown is noted in order."""
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model)
    original = tiny_sampling.encode(loaded.clip, "a red circle")
    edit = PromptEdit(frozenset({1, 2}), layout=Layout(original, 0.0, 0.6))

    def edited(model):
        return latent_blend.attach(prompt_edit.attach(model, edit), timeline, "triangle")

    model = edited(on_devices(loaded.model)) if devices_first else on_devices(edited(loaded.model))
    one, _ = sampled(loaded, edited(loaded.model), timeline, steps=3)
    torch.testing.assert_close(sampled(loaded, model, timeline, steps=3)[0], one, atol=1e-4, rtol=1e-4)


def test_one_segment_is_left_to_core(tiny):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model, transitions=("continue",))
    assert len(timeline.segments) == 1
    _, seen = sampled(loaded, on_devices(blended(loaded, timeline)), timeline)
    assert {rows for *_, rows in seen.calls} == {1}  # prompt on one device, negative prompt on the other


@pytest.mark.parametrize("blend", refine.BLENDS)
def test_chunks_of_a_refinement(tiny, blend):
    """x0 divides them; step moves one after the other."""
    loaded = tiny("wan21")
    latent = {"samples": torch.randn(1, 16, 13, 8, 8, generator=torch.Generator().manual_seed(1))}
    conds = tiny_sampling.encode(loaded.clip, "a red circle"), tiny_sampling.encode(loaded.clip, "blurry")
    sigmas = torch.tensor([0.6, 0.3, 0.0])

    def run(model):
        seen, model = Seen(), model.clone()
        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "seen", seen)
        with torch.inference_mode():
            out = refine.refine(
                model, latent, sampling_of(conds, sigmas), strength=1.0, chunk_latent_frames=5, blend=blend
            )
        return out["samples"], seen

    (one, _), (two, seen) = run(loaded.model), run(on_devices(loaded.model))
    torch.testing.assert_close(one, two, **({"atol": 0, "rtol": 0} if blend == refine.X0 else {}))
    assert {rows for *_, rows in seen.calls} == ({2} if blend == refine.X0 else {1})


def test_an_error_on_one_device_ends_the_run_and_leaves_nothing_behind(tiny):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model)
    model = on_devices(blended(loaded, timeline))
    whole, _ = sampled(loaded, model, timeline)
    calls, lock = [], threading.Lock()

    def fails_at_first(executor, *args, **kwargs):
        with lock:
            calls.append(id(executor.class_obj))
            first = len(calls) == 1
        if first:
            raise comfy.model_management.InterruptProcessingException()
        return executor(*args, **kwargs)

    failing = model.clone()
    failing.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "fails", fails_at_first)
    threads = threading.active_count()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sampled(loaded, failing, timeline)
    assert calls.count(calls[0]) == 1 and len(calls) <= 3 and threading.active_count() == threads
    assert torch.equal(sampled(loaded, model, timeline)[0], whole)
