/**
 * What the last run made of each shot, read from ComfyUI's own history: it has the storyboard that was queued and what
 * Longreel Sampler said of its shots, and it is still there when the page is opened anew.
 */
import { read, shotTexts } from "./storyboard/board.js";

/** @typedef {import("./storyboard/words.js").Made} Made */
/** @typedef {{text: string, states: Made[]}} Run */

const LOOKED_AT = 12; // entries of the history

/**
 * Return the entries of the history that are of a graph, the latest first.
 * @param {(path: string) => Promise<Response>} fetchApi
 * @param {string | undefined} graph  its id; every saved graph keeps its own
 */
export async function latestEntries(fetchApi, graph) {
  const response = await fetchApi(`/history?max_items=${LOOKED_AT}`);
  const all = response.ok ? Object.values(await response.json()) : [];
  const entries = all.filter((entry) => {
    const own = entry.prompt?.[3]?.extra_pnginfo?.workflow?.id;
    return !isId(own) || !isId(graph) || own === graph;
  });
  return entries.sort((a, b) => (b.prompt?.[0] ?? 0) - (a.prompt?.[0] ?? 0));
}

/**
 * Tell whether a graph has an id: one that was never saved has zeros.
 * @param {string | undefined} id
 */
const isId = (id) => /[1-9a-f]/.test(id ?? "");

/**
 * Return the output of a Longreel Plan in the latest entry that has one, or null where it is not of what it would plan
 * now.
 * @param {any[]} entries
 * @param {string | number} id  of the node
 * @param {Record<string, unknown>} inputs  that are set in it
 * @param {string | null} text  of the storyboard that is wired to it
 */
export function plannedOf(entries, id, inputs, text) {
  for (const entry of entries) {
    const prompt = entry.prompt?.[2] ?? {};
    const own = Object.keys(entry.outputs ?? {}).find((name) => isNode(entry, name, id, "LongreelPlan"));
    const output = own === undefined ? null : entry.outputs[own];
    if (!own || !output?.longreel_plan) continue;
    const then = prompt[own].inputs;
    const same = Object.entries(inputs).every(([name, value]) => then[name] === value);
    return same && prompt[then.storyboard?.[0]]?.inputs?.text === text ? output : null;
  }
  return null;
}

/**
 * Return the latest run of a storyboard node, or null.
 * @param {any[]} entries
 * @param {string | number} id  of the node
 * @returns {Run | null}
 */
export function runOf(entries, id) {
  for (const entry of entries) {
    const prompt = entry.prompt?.[2] ?? {};
    const board = Object.keys(prompt).find((name) => isNode(entry, name, id, "LongreelStoryboard"));
    const text = board === undefined ? null : prompt[board].inputs?.text;
    if (typeof text !== "string") continue;
    for (const [name, output] of Object.entries(entry.outputs ?? {})) {
      const states = /** @type {any} */ (output).longreel_shots;
      if (Array.isArray(states) && leadsTo(prompt, prompt[name]?.inputs?.timeline, board)) return { text, states };
    }
  }
  return null;
}

/**
 * Return the state of each shot of a board after a run: of those that are known again, by id or by their text.
 * @param {import("./storyboard/board.js").Board} board
 * @param {Run | null} run
 * @returns {(Made | undefined)[]}
 */
export function statesOf(board, run) {
  const then = run && read(run.text).board;
  if (!run || !then) return [];
  const sameVideo = ["fps", "width", "height", "style", "negative", "seed"].every((name) => board.fields[name] === then.fields[name]);
  const [before, now] = [shotTexts(then).map(asMade), shotTexts(board).map(asMade)];
  const byId = new Map();
  then.shots.forEach((shot, index) => shot.id != null && byId.set(shot.id, index));
  return board.shots.map((shot, index) => {
    const known = shot.id != null && byId.has(shot.id);
    const match = known ? byId.get(shot.id) : before[index] === now[index] ? index : before.indexOf(now[index]);
    if (match >= 0) return sameVideo && before[match] === now[index] ? run.states[match] : "changed";
    const unnamed = then.shots.length === board.shots.length && then.shots[index].id == null;
    return unnamed ? "changed" : undefined; // a shot of the same place, which got its id since
  });
}

/**
 * Return what of a shot's text a run depends on.
 * @param {string} text
 */
function asMade(text) {
  const { locked, id, ...rest } = JSON.parse(text);
  return JSON.stringify(rest);
}

/**
 * @param {any} entry
 * @param {string} name  of the node in the prompt; inside subgraphs it ends in the node's own id
 * @param {string | number} id
 * @param {string} type
 */
const isNode = (entry, name, id, type) => name.split(":").pop() === String(id) && entry.prompt?.[2]?.[name]?.class_type === type;

/**
 * Tell whether a wire comes, over any nodes, from a storyboard.
 * @param {any} prompt
 * @param {any} link
 * @param {string} [board]
 * @param {Set<string>} [seen]
 * @returns {boolean}
 */
function leadsTo(prompt, link, board, seen = new Set()) {
  const id = Array.isArray(link) ? String(link[0]) : "";
  if (!id || seen.has(id)) return false;
  seen.add(id);
  if (id === board) return true;
  const { model, ...inputs } = prompt[id]?.inputs ?? {};
  return Object.values(inputs).some((one) => leadsTo(prompt, one, board, seen));
}
