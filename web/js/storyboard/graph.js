/**
 * What the graph around a storyboard says: which Longreel Plan it is wired to, with which inputs, for which family.
 *
 * The family is the one that the Plan found when it ran last, else what the name of the model's file tells. Names lie;
 * the editor says where it has the family from, and lets people choose another.
 */

const PLAN_INPUTS = ["width", "height", "segment_frames", "overlap_frames", "transition_prompts"];
const BY_FILE = /** @type {[RegExp, string][]} */ ([
  [/hunyuan.*1[._]?5/i, "HunyuanVideo 1.5"],
  [/hunyuan/i, "HunyuanVideo"],
  [/cogvideo.*1[._]?5/i, "CogVideoX 1.5"],
  [/cogvideo/i, "CogVideoX"],
  [/wan.*(ti2v|2[._]?2.*5b)/i, "Wan 2.2 5B"],
  [/wan|skyreels|humo/i, "Wan"],
  [/ltx.?2|ltxav/i, "LTX-2"],
  [/ltx/i, "LTXV"],
  [/kandinsky/i, "Kandinsky 5"],
]);

/**
 * Return the nodes that a node's output leads to.
 * @param {any} node
 * @returns {any[]}
 */
function nodesBehind(node) {
  const ids = (node.outputs ?? []).flatMap((/** @type {any} */ output) => output.links ?? []);
  return ids
    .map((/** @type {any} */ id) => node.graph?.getNodeById(linkOf(node.graph, id)?.target_id))
    .filter(Boolean);
}

/**
 * @param {any} graph
 * @param {any} id
 */
const linkOf = (graph, id) => graph?.getLink?.(id) ?? graph?.links?.get?.(id) ?? graph?.links?.[id];

/**
 * Return the first Longreel Plan that a storyboard leads to, or null.
 * @param {any} storyboard  its node
 */
export function planOf(storyboard) {
  const seen = new Set();
  const waiting = [storyboard];
  while (waiting.length && seen.size < 200) {
    const node = waiting.shift();
    if (seen.has(node)) continue;
    seen.add(node);
    if (node.type === "LongreelPlan") return node;
    if (node === storyboard || node.type === "Reroute" || node.type === "LongreelSaveStoryboard") waiting.push(...nodesBehind(node));
  }
  return null;
}

/**
 * Return the inputs of a Longreel Plan that are set in it and not wired.
 * @param {any} plan
 * @returns {Record<string, number>}
 */
export function inputsOf(plan) {
  /** @type {Record<string, number>} */
  const found = {};
  for (const widget of plan?.widgets ?? []) {
    const wired = plan.inputs?.some((/** @type {any} */ input) => input.widget?.name === widget.name && input.link != null);
    if (PLAN_INPUTS.includes(widget.name) && !wired && Number.isInteger(widget.value)) found[widget.name] = widget.value;
  }
  return found;
}

/**
 * Return the family that the model of a Longreel Plan is of, as far as its graph tells, else "".
 * @param {any} plan
 */
export function familyOf(plan) {
  if (!plan) return "";
  if (typeof plan.longreelFamily === "string") return plan.longreelFamily; // found when it ran: plan_node.js
  const seen = new Set();
  const waiting = [behindInput(plan, "model")];
  while (waiting.length && seen.size < 200) {
    const node = waiting.shift();
    if (!node || seen.has(node)) continue;
    seen.add(node);
    if (node.type === "LongreelDemoModel") return "Wan";
    for (const widget of node.widgets ?? []) {
      const file = typeof widget.value === "string" && /\.(safetensors|gguf|sft|pt)$/i.test(widget.value) ? widget.value : "";
      const found = file && BY_FILE.find(([name]) => name.test(file));
      if (found) return found[1];
    }
    waiting.push(...(node.inputs ?? []).map((/** @type {any} */ input) => behindInput(node, input.name)));
  }
  return "";
}

/**
 * Return the node that is wired to an input, or null.
 * @param {any} node
 * @param {string} name
 */
export function behindInput(node, name) {
  const link = node.inputs?.find((/** @type {any} */ input) => input.name === name)?.link;
  return link == null ? null : node.graph?.getNodeById(linkOf(node.graph, link)?.origin_id);
}

/**
 * Tell whether the text of a storyboard comes through a wire.
 * @param {any} node
 */
export const isWired = (node) =>
  (node.inputs ?? []).some((/** @type {any} */ input) => (input.widget?.name ?? input.name) === "text" && input.link != null);
