/**
 * Edit JSON where it stands: find the place of a value in a text, and give the text back with that place alone changed.
 *
 * What is not edited keeps its bytes: unknown keys, line breaks, and numbers that a double cannot hold (seeds of 64
 * bits). It does not know what a storyboard is.
 */

/** @typedef {string | number} Key */
/** @typedef {{key: string, start: number, value: Place}} Member  `start` is that of the key */
/**
 * @typedef {object} Place  of a value: text.slice(start, end)
 * @property {number} start
 * @property {number} end
 * @property {Member[]} [members]  of an object
 * @property {Place[]} [items]  of an array
 */

const SPACE = /[ \t\n\r\ufeff]*/y;
const SCALAR = /"(?:[^"\\]|\\.)*"|[^\s,\]}]+/y;

/**
 * Return where every value of a JSON text stands. The text must be JSON: what JSON.parse refuses is not looked for.
 * @param {string} text
 * @returns {Place}
 */
export function placesOf(text) {
  let at = 0;
  const skip = () => {
    SPACE.lastIndex = at;
    SPACE.test(text);
    at = SPACE.lastIndex;
  };
  const scalar = () => {
    SCALAR.lastIndex = at;
    SCALAR.test(text);
    const start = at;
    at = SCALAR.lastIndex;
    return { start, end: at };
  };
  /** @returns {Place} */
  const value = () => {
    skip();
    const opened = text[at];
    if (opened !== "{" && opened !== "[") return scalar();
    /** @type {Place} */
    const place = opened === "{" ? { start: at, end: at, members: [] } : { start: at, end: at, items: [] };
    at += 1;
    for (skip(); text[at] !== "}" && text[at] !== "]"; skip()) {
      if (place.members) {
        const key = scalar();
        skip();
        at += 1; // the colon
        place.members.push({ key: JSON.parse(text.slice(key.start, key.end)), start: key.start, value: value() });
      } else place.items?.push(value());
      skip();
      if (text[at] === ",") at += 1;
    }
    at += 1;
    place.end = at;
    return place;
  };
  return value();
}

/**
 * Return the place of a path, or null. Of a key that is written twice it is the last one, which is the one that counts.
 * @param {Place} root
 * @param {Key[]} path
 * @returns {Place | null}
 */
export function placeOf(root, path) {
  /** @type {Place | undefined} */
  let place = root;
  for (const key of path) {
    if (!place) return null;
    place = typeof key === "number" ? place.items?.[key] : place.members?.findLast((one) => one.key === key)?.value;
  }
  return place ?? null;
}

/**
 * Return the text with another value at a path; a key that is missing is added behind the last one of its object.
 * @param {string} text
 * @param {Key[]} path
 * @param {string} json  of the value
 */
export function withValue(text, path, json) {
  const root = placesOf(text);
  const there = placeOf(root, path);
  if (there) return text.slice(0, there.start) + json + text.slice(there.end);
  const owner = placeOf(root, path.slice(0, -1));
  if (!owner?.members) throw new Error(`there is no object at ${path.slice(0, -1).join(".")}`);
  const member = `${JSON.stringify(path[path.length - 1])}: ${json}`;
  const last = owner.members[owner.members.length - 1];
  if (!last) return `${text.slice(0, owner.start)}{${member}}${text.slice(owner.end)}`;
  const end = last.value.end;
  return `${text.slice(0, end)},${gapBefore(text, owner.start, owner.members.map((one) => one.start))}${member}${text.slice(end)}`;
}

/**
 * Return the text without the value at a path, and without its key or its comma; as it is where there is none.
 * @param {string} text
 * @param {Key[]} path
 */
export function without(text, path) {
  const key = path[path.length - 1];
  const owner = placeOf(placesOf(text), path.slice(0, -1));
  const all = owner?.members
    ? owner.members.map((one) => ({ start: one.start, end: one.value.end, here: one.key === key }))
    : (owner?.items ?? []).map((one, index) => ({ start: one.start, end: one.end, here: index === key }));
  for (let index = all.length - 1; index >= 0; index -= 1) {
    if (!all[index].here) continue;
    const [from, to] =
      index + 1 < all.length
        ? [all[index].start, all[index + 1].start]
        : [index > 0 ? all[index - 1].end : all[index].start, all[index].end];
    text = text.slice(0, from) + text.slice(to);
    all.splice(index, 1);
  }
  return text;
}

/**
 * Return the text with one more item in an array, which then has this index.
 * @param {string} text
 * @param {Key[]} path  of the array
 * @param {number} index
 * @param {string} json  of the item
 */
export function withItem(text, path, index, json) {
  const owner = placeOf(placesOf(text), path);
  if (!owner?.items) throw new Error(`there is no list at ${path.join(".")}`);
  const items = owner.items;
  if (!items.length) return `${text.slice(0, owner.start)}[${json}]${text.slice(owner.end)}`;
  const gap = gapBefore(text, owner.start, items.map((one) => one.start));
  if (index >= items.length) {
    const end = items[items.length - 1].end;
    return `${text.slice(0, end)},${gap}${json}${text.slice(end)}`;
  }
  const start = items[index].start;
  return `${text.slice(0, start)}${json},${gap}${text.slice(start)}`;
}

/**
 * Return the text with an item of an array moved so that it has the index `to`. Items keep their bytes, and so does
 * what stands between them.
 * @param {string} text
 * @param {Key[]} path  of the array
 * @param {number} from
 * @param {number} to
 */
export function withMoved(text, path, from, to) {
  const items = placeOf(placesOf(text), path)?.items ?? [];
  const order = items.map((one) => text.slice(one.start, one.end));
  order.splice(to, 0, ...order.splice(from, 1));
  let out = text.slice(0, items[0]?.start ?? text.length);
  items.forEach((one, index) => {
    out += order[index] + text.slice(one.end, items[index + 1]?.start ?? text.length);
  });
  return out;
}

/**
 * Return the white space that stands in front of the elements of a list or an object, as they were written so far.
 * @param {string} text
 * @param {number} opened  where the bracket stands
 * @param {number[]} starts  of the elements, at least one
 */
function gapBefore(text, opened, starts) {
  const last = starts[starts.length - 1];
  const before = text.slice(opened + 1, last);
  const gap = /[ \t\n\r]*$/.exec(before)?.[0] ?? "";
  return starts.length > 1 || gap.includes("\n") ? gap : " ";
}
