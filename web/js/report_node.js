/**
 * Longreel Report shows its figures as text in its own node, below the plot, which ComfyUI draws itself.
 */
import { addStyle, el } from "./dom.js";
import { t } from "./translate.js";

const LEAST = 160; // pixels, once there is something to show
const WIDE = 520; // pixels that the node becomes wide then, where it is narrower

/**
 * Give a node the place of its text.
 * @param {any} node
 */
export function addReport(node) {
  if (node.longreelReport) return;
  addStyle();
  const element = el("div", { class: "lr-planned", hidden: true });
  node.longreelReport = element;
  const widget = node.addDOMWidget("report_text", "longreel_report", element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => (element.hidden ? 0 : LEAST),
    getMaxHeight: () => (element.hidden ? 0 : undefined),
    getValue: () => "",
    setValue: () => {},
  });
  widget.serialize = false;
  element.addEventListener("wheel", (event) => {
    if (element.scrollHeight > element.clientHeight && !event.ctrlKey) event.stopPropagation();
  });
  const executed = node.onExecuted;
  node.onExecuted = function (/** @type {any} */ output) {
    executed?.apply(this, arguments);
    const report = output?.text?.[0];
    if (!report) return;
    const width = element.hidden ? Math.max(node.size[0], WIDE) : node.size[0];
    element.hidden = false;
    element.replaceChildren(el("pre", { tabindex: 0, role: "region", "aria-label": t("Report") }, report));
    node.setSize([width, Math.max(node.size[1], node.computeSize()[1])]);
    node.setDirtyCanvas?.(true, true);
  };
}
