/**
 * Longreel Report shows its figures as text in its own node, below the plot, which ComfyUI draws itself.
 */
import { el } from "./dom.js";
import { addPlace, onRun, showPlace } from "./node_place.js";
import { t } from "./translate.js";

const LEAST = 190; // pixels, once there is something to show
const WIDE = 520; // pixels that the node becomes wide then, where it is narrower

/**
 * Give a node the place of its text.
 * @param {any} node
 */
export function addReport(node) {
  if (node.longreelReport) return;
  const element = (node.longreelReport = addPlace(node, { name: "report_text", type: "longreel_report", least: LEAST }));
  node.previewMediaType = "image"; // the plot; Nodes 2.0 takes what a node with a VIDEO input shows for a video
  onRun(node, (output) => {
    const report = output?.text?.[0];
    if (!report) return;
    showPlace(node, element, [el("pre", { tabindex: 0, role: "region", "aria-label": t("Report") }, report)], WIDE);
  });
}
