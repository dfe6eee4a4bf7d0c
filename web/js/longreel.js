/**
 * Longreel in ComfyUI's page: the storyboard's editor, the picture of a plan, a report's text,
 * a comparison. ComfyUI loads every file of this folder; this is the one that does something when it is loaded.
 */
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { addComparison } from "./compare_node.js";
import { addPicture, showPlans } from "./plan_node.js";
import { addReport } from "./report_node.js";
import { addEditor, showRuns } from "./storyboard_node.js";
import { learn } from "./translate.js";

/** @type {ReturnType<typeof setTimeout> | undefined} */
let waiting;

/** Look at what the last runs made, once, a moment from now. @param {number} [pause] */
function lookAtRuns(pause = 50) {
  clearTimeout(waiting);
  waiting = setTimeout(async () => {
    const nodes = app.graph?.nodes ?? [];
    try {
      await Promise.all([showRuns(nodes), showPlans(nodes)]);
    } catch (error) {
      console.warn("Longreel: the last run could not be looked at", error);
    }
  }, pause);
}

app.registerExtension({
  name: "longreel.editor",
  init: () => learn(api, app.extensionManager?.setting?.get?.("Comfy.Locale") ?? "en"),
  /** @param {any} node */
  nodeCreated(node) {
    if (node.comfyClass === "LongreelStoryboard") addEditor(node);
    if (node.comfyClass === "LongreelPlan") addPicture(node);
    if (node.comfyClass === "LongreelReport") addReport(node);
    if (node.comfyClass === "LongreelCompare") addComparison(node);
    if (node.comfyClass === "LongreelStoryboard" || node.comfyClass === "LongreelPlan") lookAtRuns(300);
  },
  setup() {
    for (const kind of ["execution_success", "execution_error", "execution_interrupted"])
      api.addEventListener(kind, () => lookAtRuns());
  },
});
