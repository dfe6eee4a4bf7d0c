"""Ratings are told best first, with their interval where there is one."""

from longreel.engine.compare.elo import Rating
from longreel.engine.compare.ratings_text import ratings_text


def test_ratings_are_lines_and_missing_intervals_are_explained():
    rows = [Rating("memory", 1061.6, 1010.9, 1123.7, 10), Rating("plain", 938.4, 876.3, 989.1, 10)]
    assert ratings_text({"aesthetics": rows}) == (
        "aesthetics\n  memory  1062  (1011 to 1124)  10 votes\n  plain   938  (876 to 989)  10 votes"
    )
    few = ratings_text({"overall": [Rating("a", 1000.0, None, None, 1)]})
    assert few == "overall\n  a  1000  1 vote\nintervals: from 5 storyboards or voters on"
    assert ratings_text({}) == "no votes yet"
