"""The memory table of Longreel Plan: every figure stands in it, in GiB, and it says whether all fits."""

from longreel.engine.plan.card_memory import GIB, Card, CoreNeeds, choose_places, refusal
from longreel.engine.plan.memory_table import WAYS, memory_table
from longreel.engine.plan.needs import MAIN_MEMORY, Need

CARD_24 = Card("cuda:0", 24 * GIB, 23 * GIB, 60 * GIB)
WAN_14B = CoreNeeds(14 * GIB, GIB // 2, 12 * GIB, 6 * GIB, GIB // 4)
SHARE = Need("Longreel KV Share", 52 * GIB, GIB, GIB // 2)
SMALL = Need("Longreel KV Share", 26 * GIB, GIB, GIB // 2)
WAYS_OF_SHARE = dict(zip(WAYS, (SHARE, SHARE, SMALL, SMALL), strict=True))
CAM = Need("Longreel Short Memory (trained)", 0, 2 * GIB)
WINDOWS = {"guidance": 12 * GIB, "one prompt": 6 * GIB}


def test_every_feature_is_a_row_with_each_way_to_keep():
    plan = choose_places(CARD_24, WAN_14B, (SHARE, CAM, Need("Longreel Focus Preview")))
    lines = memory_table(plan, WINDOWS, (WAYS_OF_SHARE, {WAYS[0]: CAM}, {}), None)
    assert lines[0] == (
        "memory while sampling, estimated: 29.8 GiB on cuda:0 with all weights, 10.2 GiB at least, and 52.0 GiB in "
        "main memory; 23.0 GiB free on cuda:0, 60.0 GiB in main memory"
    )
    assert lines[1] == "  weights 14.0 GiB, of which 0.5 GiB must lie on cuda:0"
    assert "12.0 GiB with guidance, 6.0 GiB with one prompt" in lines[2] and "latent 0.2 GiB" in lines[3]
    share, cam = (line.split("  ") for line in lines[6:8])
    assert [cell.strip() for cell in share if cell.strip()] == [
        "Longreel KV Share", "53.00", "1.50 + 52.00", "27.00", "1.50 + 26.00", MAIN_MEMORY,
    ]  # fmt: skip
    assert [cell.strip() for cell in cam if cell.strip()] == [CAM.name, "2.00", "-", "-", "-", "-"]
    assert lines[8:] == ["  fits; weights come to the card layer by layer"]


def test_what_does_not_fit_is_said_in_the_words_of_the_refusal():
    plan = choose_places(Card("cuda:0", 4 * GIB, 4 * GIB, 60 * GIB), WAN_14B, (SHARE,))
    words = refusal(plan, ["layers 38-39 in Longreel KV Share"])
    assert memory_table(plan, WINDOWS, (WAYS_OF_SHARE,), words)[-1] == f"  does not fit: {words}"


def test_a_model_alone_has_no_rows_of_features():
    lines = memory_table(choose_places(CARD_24, CoreNeeds(3 * GIB, GIB, GIB, GIB), ()), WINDOWS, (), None)
    assert len(lines) == 5 and lines[-1] == "  fits beside all weights"
