/** Give a node of ComfyUI a place of its own in which it shows something, neither saved nor queued; empty until then. */
import { addStyle, el } from "./dom.js";

/**
 * Add the place to a node, below its inputs.
 * @param {any} node
 * @param {{name: string, type: string, least: number, class?: string}} place  least: pixels, once there is something
 * @returns {HTMLDivElement}  hidden until `showPlace`
 */
export function addPlace(node, place) {
  addStyle();
  const same = node.widgets?.some((/** @type {any} */ one) => one.name === place.name);
  if (same) throw new Error(`Longreel: ${node.type} has an input ${place.name}; Nodes 2.0 shows one of two by a name`);
  const element = el("div", { class: ["lr-planned", place.class].filter(Boolean).join(" "), hidden: true });
  element.style.minHeight = `${place.least}px`;
  const widget = node.addDOMWidget(place.name, place.type, element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => (element.hidden ? 0 : place.least),
    getMaxHeight: () => (element.hidden ? 0 : undefined),
    getValue: () => "",
    setValue: () => {},
  });
  widget.serialize = false;
  element.addEventListener("wheel", (event) => {
    if (element.scrollHeight > element.clientHeight && !event.ctrlKey) event.stopPropagation();
  });
  return element;
}

/**
 * Show something in the place, and make the node large enough for it.
 * @param {any} node
 * @param {HTMLElement} element  of `addPlace`
 * @param {Node[]} children
 * @param {number} [wide]  pixels that a narrower node becomes wide when it shows something for the first time
 */
export function showPlace(node, element, children, wide = 0) {
  const width = element.hidden ? Math.max(node.size[0], wide) : node.size[0];
  element.hidden = false;
  element.replaceChildren(...children);
  node.setSize([width, Math.max(node.size[1], node.computeSize()[1])]);
  node.setDirtyCanvas?.(true, true);
}

/**
 * Hear what a run says of a node, behind what ComfyUI does with it.
 * @param {any} node
 * @param {(output: any) => void} hear
 */
export function onRun(node, hear) {
  const executed = node.onExecuted;
  node.onExecuted = function (/** @type {any} */ output) {
    executed?.apply(this, arguments);
    hear(output);
  };
}
