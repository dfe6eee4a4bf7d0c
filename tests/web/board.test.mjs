// web/js/storyboard/board.js, json_text.js, history.js and scale.js without a browser: node --test tests/web/board.test.mjs
import assert from "node:assert/strict";
import { test } from "node:test";
import * as boards from "../../web/js/storyboard/board.js";
import { History } from "../../web/js/storyboard/history.js";
import { placesOf } from "../../web/js/storyboard/json_text.js";
import { scaleOf, shotAt } from "../../web/js/storyboard/scale.js";
import { statesOf } from "../../web/js/after_run.js";

const TEXT = `{
  "longreel": 1,  "_note": ["kept", 1.50],
  "seed": 18446744073709551615,
  "shots": [
    {"prompt": "a \\"red\\" {circle}, [1]", "seconds": 1.10, "unknown": {"x": 1e2}, "id": "aa"},
    { "seconds" :2,
      "prompt":"b", "transition": "blend", "overlap_seconds": 0.5, "seed": 18446744073709551614 },
    {"prompt": "c", "seconds": 3, "locked": true, "anchors": [{"at": 0, "image": "x/y.png"}]}
  ]
}
`;
const board = (text) => boards.read(text).board;
const shots = (text) => boards.shotTexts(board(text));

test("what an edit does not name keeps its bytes", () => {
  const before = shots(TEXT);
  const edits = [
    boards.withShotFields(board(TEXT), 0, { prompt: '"new"' }),
    boards.withShotFields(board(TEXT), 0, { seed: "7", negative: '"n"' }),
    boards.withShotFields(board(TEXT), 0, { unknown: undefined }),
    boards.withBoardField(board(TEXT), "title", '"T"'),
    boards.withBoardField(board(TEXT), "seed", undefined),
  ];
  for (const text of edits) {
    JSON.parse(text);
    assert.deepEqual(shots(text).slice(1), before.slice(1));
    assert.ok(text.includes('"_note": ["kept", 1.50]'));
  }
  assert.equal(edits[0], TEXT.replace('"a \\"red\\" {circle}, [1]"', '"new"'));
  assert.equal(edits[2], TEXT.replace('"unknown": {"x": 1e2}, ', ""));
  assert.equal(edits[4], TEXT.replace('  "seed": 18446744073709551615,\n', ""));
  assert.ok(edits[1].includes('"id": "aa", "seed": 7, "negative": "n"}'));
  const last = boards.withShotFields(board(TEXT), 1, { seed: undefined });
  assert.equal(last, TEXT.replace(', "seed": 18446744073709551614', ""));
});

test("a field that is set and taken out again leaves the text as it was", () => {
  for (const index of [0, 1, 2]) {
    const there = boards.withShotFields(board(TEXT), index, { strength: "0.5" });
    assert.equal(boards.withShotFields(board(there), index, { strength: undefined }), TEXT);
  }
});

test("shots move, double and go, each with its own bytes", () => {
  const [a, b, c] = shots(TEXT);
  assert.deepEqual(shots(boards.withShotMoved(board(TEXT), 0, 2)), [b, c, a]);
  assert.equal(boards.withShotMoved(board(boards.withShotMoved(board(TEXT), 0, 2)), 2, 0), TEXT);
  assert.deepEqual(shots(boards.withoutShot(board(TEXT), 1)), [a, c]);
  assert.deepEqual(shots(boards.withoutShot(board(TEXT), 2)), [a, b]);
  const copied = boards.withCopy(board(TEXT), 2);
  assert.deepEqual(shots(copied).slice(0, 3), [a, b, c]);
  const copy = board(copied).shots[3];
  assert.deepEqual(copy.anchors, [{ at: 0, image: "x/y.png" }]);
  assert.ok(copy.id && !("locked" in copy));
});

test("every shot that is made has an id of its own", () => {
  let text = TEXT;
  for (let index = 0; index < 30; index += 1) text = boards.withNewShot(board(text), index % 3, 2, "cut");
  const ids = board(text).shots.map((shot) => shot.id).filter(Boolean);
  assert.equal(new Set(ids).size, 31);
  assert.deepEqual(board(text).shots.filter((shot) => shot.id !== "aa" && shot.id).map((shot) => shot.transition), Array(30).fill("cut"));
});

test("what is locked or made again gets an id, and loses no field", () => {
  const locked = boards.withShotFields(board(TEXT), 1, boards.lockFields(board(TEXT), 1));
  assert.equal(board(locked).shots[1].locked, true);
  assert.match(board(locked).shots[1].id, /^[0-9a-f]{8}$/);
  const again = boards.withShotFields(board(locked), 1, boards.makeAgainFields(board(locked), 1));
  assert.equal(board(again).shots[1].id, board(locked).shots[1].id);
  assert.ok(!("locked" in board(again).shots[1]) && board(again).shots[1].seed < 2 ** 48);
  assert.equal(board(again).shots[1].overlap_seconds, 0.5);
});

test("of a key that is written twice the last one counts, and is the one that changes", () => {
  const twice = '[{"prompt": "a", "seconds": 1, "prompt": "b"}]';
  const changed = boards.withShotFields(board(twice), 0, { prompt: '"c"' });
  assert.equal(changed, '[{"prompt": "a", "seconds": 1, "prompt": "c"}]');
  assert.equal(JSON.parse(boards.withShotFields(board(twice), 0, { prompt: undefined }))[0].prompt, undefined);
});

test("seeds of 64 bits are read to the digit", () => {
  assert.equal(boards.written(board(TEXT), ["seed"]), "18446744073709551615");
  assert.equal(boards.written(board(TEXT), boards.pathOf(board(TEXT), 1, "seed")), "18446744073709551614");
});

test("shots that stand alone stay so until they need a storyboard", () => {
  const list = '[{"prompt": "a", "seconds": 1},\n {"prompt": "b", "seconds": 2}]';
  assert.equal(boards.withShotFields(board(list), 1, { seconds: "3" }), list.replace('"seconds": 2', '"seconds": 3'));
  assert.deepEqual(shots(boards.withBoardField(board(list), "fps", "24")), shots(list));
  assert.equal(JSON.parse(boards.withBoardField(board(list), "fps", "24")).longreel, 1);
  const one = '{"prompt": "a", "seconds": 1}';
  assert.equal(boards.withShotFields(board(one), 0, { seconds: "3" }), '{"prompt": "a", "seconds": 3}');
  assert.equal(board(boards.withNewShot(board(one), 1, 1, "blend")).shots.length, 2);
});

test("a text that is no storyboard is told from one", () => {
  for (const text of ["", "{", "[]", '{"longreel": 1}', '{"longreel": 1, "shots": []}', '{"longreel": 1, "shots": [1]}', '{"prompt": "a"}\n{"prompt": "b"}', '[{"text": "a"}]', "NaN"])
    assert.equal(boards.read(text).board, null, text);
});

test("places are those of JSON.parse, whatever the white space", () => {
  const text = ' {"a" : [1 , "x,]}" ,{ } , [ ] ] ,\n\t"a": {"b":null , "\\u0062":-1.5e3}} ';
  const plain = (place) =>
    place.members
      ? Object.fromEntries(place.members.map((one) => [one.key, plain(one.value)]))
      : place.items
        ? place.items.map(plain)
        : JSON.parse(text.slice(place.start, place.end));
  assert.deepEqual(plain(placesOf(text)), JSON.parse(text));
});

test("one history: steps of one name are one, undone and done again", () => {
  const history = new History({ text: "a", chosen: 0 });
  history.push({ text: "ab", chosen: 0 }, "prompt 0");
  history.push({ text: "abc", chosen: 0 }, "prompt 0");
  history.push({ text: "x", chosen: 1 });
  assert.equal(history.undo()?.text, "abc");
  assert.equal(history.undo()?.text, "a");
  assert.equal(history.undo(), null);
  assert.equal(history.redo()?.text, "abc");
  history.push({ text: "y", chosen: 0 }, "prompt 0");
  assert.equal(history.redo(), null);
  assert.equal(history.undo()?.text, "abc");
});

test("the strip is to scale, and every shot can be hit", () => {
  const scale = scaleOf([1, 2, 0.01, 5], 800, 1);
  assert.ok(Math.abs((scale.ends[1] - scale.starts[1]) / (scale.ends[0] - scale.starts[0]) - 2) < 1e-9);
  assert.ok(scale.ends[2] - scale.starts[2] >= 14);
  scale.starts.forEach((start, index) => assert.equal(shotAt(scale, start + 1), index));
  assert.equal(Math.round(scaleOf([3600, 1], 500, 1).starts[1]), 500);
  assert.ok(scaleOf(Array(200).fill(3), 500, 1).width > 200 * 45);
});

test("a run's states follow a shot by its id, and say where it changed since", () => {
  const run = { text: TEXT, states: ["made", "reused", "locked"] };
  assert.deepEqual(statesOf(board(TEXT), run), ["made", "reused", "locked"]);
  assert.deepEqual(statesOf(board(boards.withShotMoved(board(TEXT), 0, 2)), run), ["reused", "locked", "made"]);
  const locked = boards.withShotFields(board(TEXT), 1, boards.lockFields(board(TEXT), 1));
  assert.deepEqual(statesOf(board(locked), run), ["made", "reused", "locked"]);
  const again = boards.withShotFields(board(TEXT), 0, boards.makeAgainFields(board(TEXT), 0));
  assert.deepEqual(statesOf(board(again), run), ["changed", "reused", "locked"]);
  assert.deepEqual(statesOf(board(boards.withBoardField(board(TEXT), "fps", "24")), run), Array(3).fill("changed"));
  const unnamed = boards.withShotFields(board(TEXT), 1, boards.makeAgainFields(board(TEXT), 1));
  assert.deepEqual(statesOf(board(unnamed), run), ["made", "changed", "locked"]);
  const added = boards.withNewShot(board(TEXT), 0, 1, "continue");
  assert.deepEqual(statesOf(board(added), run), [undefined, "made", "reused", "locked"]);
});
