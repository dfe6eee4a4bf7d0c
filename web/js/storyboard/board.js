/**
 * The storyboard behind the editor: read from its JSON text, and changed by giving back another text.
 *
 * Nothing is kept beside the text. A text that is no storyboard the editor can show is not touched (`read` says why).
 * Shots that an edit does not name keep their bytes. What is right or wrong is the server's to say (check.js).
 */
import { placeOf, placesOf, withItem, withMoved, withValue, without } from "./json_text.js";

/** @typedef {import("./json_text.js").Key} Key */
/** @typedef {{at: number, image: string}} Anchor */
/** @typedef {Record<string, any>} Shot  its fields as they are written, right or wrong */
/**
 * @typedef {object} Board
 * @property {string} text
 * @property {Key[]} path  of the list of shots; of the one shot where `single`
 * @property {boolean} bare  the text is the shots alone, without a storyboard around them
 * @property {boolean} single  the text is one shot
 * @property {Record<string, any>} fields  of the storyboard itself
 * @property {Shot[]} shots
 */

export const TRANSITIONS = ["continue", "blend", "cut"];
const DEFAULTS = { fps: 16, width: 832, height: 480 };

/**
 * Return the board of a text, or why the editor leaves it as text.
 * @param {string} text
 * @returns {{board: Board, why: null} | {board: null, why: string}}
 */
export function read(text) {
  /** @type {any} */
  let data;
  try {
    data = JSON.parse(text.replace(/^\ufeff/, " "));
  } catch {
    return { board: null, why: "This text is not one JSON value." };
  }
  const single = isObject(data) && "prompt" in data && !("shots" in data) && !("longreel" in data);
  const bare = single || Array.isArray(data);
  const shots = single ? [data] : bare ? data : isObject(data) ? data.shots : null;
  if (!Array.isArray(shots) || !shots.length || !shots.every(isObject))
    return { board: null, why: "This text has no list of shots." };
  if (shots.some((shot) => "text" in shot && !("prompt" in shot)))
    return { board: null, why: "This text is a scene list of ttt-video." };
  return { board: { text, path: bare ? [] : ["shots"], bare, single, fields: bare ? {} : data, shots }, why: null };
}

/**
 * Return a number that stands in a field, or what counts where there is none.
 * @param {Board} board
 * @param {"fps" | "width" | "height"} name
 */
export function boardNumber(board, name) {
  const value = board.fields[name];
  return typeof value === "number" ? value : DEFAULTS[name];
}

/**
 * Return the seconds of a shot that can be drawn: those that are written, or 1 where they are wrong.
 * @param {Shot} shot
 */
export const secondsOf = (shot) => (typeof shot.seconds === "number" && shot.seconds > 0 ? shot.seconds : 1);

/**
 * Return how a shot meets the one before: one of TRANSITIONS.
 * @param {Shot} shot
 */
export function transitionOf(shot) {
  const word = typeof shot.transition === "string" ? shot.transition.trim().toLowerCase() : "continue";
  return TRANSITIONS.includes(word) ? word : "continue";
}

/** @param {Board} board */
export const totalSeconds = (board) => board.shots.reduce((sum, shot) => sum + secondsOf(shot), 0);

/**
 * Return the text of a shot as it is written, by which it can be told whether it was changed.
 * @param {Board} board
 * @returns {string[]}
 */
export function shotTexts(board) {
  const places = board.single ? [rootOf(board)] : placeOf(rootOf(board), board.path)?.items ?? [];
  return places.map((one) => board.text.slice(one.start, one.end));
}

/** @type {WeakMap<Board, import("./json_text.js").Place>} */
const roots = new WeakMap();

/**
 * Return where everything stands in a board's text.
 * @param {Board} board
 */
function rootOf(board) {
  const root = roots.get(board) ?? placesOf(board.text);
  roots.set(board, root);
  return root;
}

/**
 * Return what is written in a field, to the digit; "" where there is nothing or null.
 * @param {Board} board
 * @param {Key[]} path  in the text
 */
export function written(board, path) {
  const place = placeOf(rootOf(board), path);
  const found = place ? board.text.slice(place.start, place.end) : "";
  return found === "null" ? "" : found;
}

/**
 * Return the path in the text of a field of a shot.
 * @param {Board} board
 * @param {number} index
 * @param {...Key} keys
 * @returns {Key[]}
 */
export const pathOf = (board, index, ...keys) => (board.single ? keys : [...board.path, index, ...keys]);

/**
 * Return the text with fields of one shot changed; a field that is undefined is taken out.
 * @param {Board} board
 * @param {number} index
 * @param {Record<string, string | undefined>} fields  as JSON
 */
export function withShotFields(board, index, fields) {
  let text = board.text;
  for (const [name, json] of Object.entries(fields)) {
    const path = pathOf(board, index, name);
    text = json === undefined ? without(text, path) : withValue(text, path, json);
  }
  return text;
}

/**
 * Return the text with a field of the storyboard itself changed. Shots that stand alone get a storyboard around them.
 * @param {Board} board
 * @param {string} name
 * @param {string | undefined} json
 */
export function withBoardField(board, name, json) {
  const text = asStoryboard(board);
  return json === undefined ? without(text, [name]) : withValue(text, [name], json);
}

/**
 * Return the text with a new shot, which then has this index and an id of its own.
 * @param {Board} board
 * @param {number} index
 * @param {number} seconds
 * @param {string} transition
 */
export function withNewShot(board, index, seconds, transition) {
  const shot = { prompt: "", seconds, ...(transition === "continue" ? {} : { transition }), id: freshId(board) };
  return withShot(board, index, oneLine(shot));
}

/**
 * Return the text with a shot once more behind itself, under an id of its own and not locked.
 * @param {Board} board
 * @param {number} index
 */
export function withCopy(board, index) {
  const text = shotTexts(board)[index];
  const copy = without(withValue(text, ["id"], JSON.stringify(freshId(board))), ["locked"]);
  return withShot(board, index + 1, copy);
}

/**
 * Return the text without a shot.
 * @param {Board} board  of two shots or more
 * @param {number} index
 */
export const withoutShot = (board, index) => without(board.text, [...board.path, index]);

/**
 * Return the text with a shot at another place.
 * @param {Board} board
 * @param {number} from
 * @param {number} to
 */
export const withShotMoved = (board, from, to) => (board.single ? board.text : withMoved(board.text, board.path, from, to));

/**
 * Return an id that no shot of the board has.
 * @param {Board} board
 */
export function freshId(board) {
  const taken = new Set(board.shots.map((shot) => String(shot.id ?? "")));
  for (;;) {
    const id = Math.floor(Math.random() * 2 ** 32).toString(16).padStart(8, "0");
    if (!taken.has(id)) return id;
  }
}

/**
 * Return the fields that lock a shot, or take its lock away. By its id a locked shot is known again after any edit.
 * @param {Board} board
 * @param {number} index
 * @returns {Record<string, string | undefined>}
 */
export function lockFields(board, index) {
  const shot = board.shots[index];
  return shot.locked === true ? { locked: undefined } : { ...idField(board, shot), locked: "true" };
}

/**
 * Return the fields by which a shot is made again: a seed that it has not had.
 * @param {Board} board
 * @param {number} index
 * @returns {Record<string, string | undefined>}
 */
export function makeAgainFields(board, index) {
  const seed = Math.floor(Math.random() * 2 ** 48);
  return { ...idField(board, board.shots[index]), seed: String(seed), locked: undefined };
}

/**
 * @param {Board} board
 * @param {Shot} shot
 * @returns {Record<string, string>}
 */
const idField = (board, shot) => (shot.id == null ? { id: JSON.stringify(freshId(board)) } : {});

/**
 * @param {Board} board
 * @param {number} index
 * @param {string} json
 */
function withShot(board, index, json) {
  const text = board.single ? asStoryboard(board) : board.text;
  return withItem(text, board.single ? ["shots"] : board.path, index, json);
}

/** @param {Board} board */
function asStoryboard(board) {
  if (!board.bare) return board.text;
  const shots = board.text.replace(/^\ufeff/, "").trim();
  return `{\n  "longreel": 1,\n  "shots": ${board.single ? `[\n    ${shots}\n  ]` : shots}\n}\n`;
}

/**
 * Write an object as one line, with the blanks that people write.
 * @param {Record<string, unknown>} data
 */
const oneLine = (data) =>
  `{${Object.entries(data)
    .map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`)
    .join(", ")}}`;

/**
 * @param {unknown} value
 * @returns {value is Record<string, unknown>}
 */
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
