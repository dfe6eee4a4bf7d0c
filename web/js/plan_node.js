/**
 * Longreel Plan shows what it planned in its own node: the picture of the timeline, and the report below it.
 *
 * Both come from the node's ui output; the report is there as text for everybody else. Before it runs, the picture is
 * that of the editor's dry run.
 */
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { latestEntries, plannedOf } from "./after_run.js";
import { el } from "./dom.js";
import { addPlace, onRun, showPlace } from "./node_place.js";
import { behindInput, inputsOf } from "./storyboard/graph.js";
import { rowWords } from "./storyboard/plan_words.js";
import { timelinePicture } from "./timeline_picture.js";
import { t } from "./translate.js";

const LEAST = 190; // pixels, once there is something to show
const PADDING = 12;
const BEFORE = "Planned while you write. What it costs, and the memory of the loaded model, are said when it runs.";

/**
 * Give a node the place of its picture.
 * @param {any} node
 */
export function addPicture(node) {
  if (node.longreelPicture) return;
  node.longreelPicture = addPlace(node, { name: "plan_picture", type: "longreel_plan", least: LEAST });
  const removed = node.onRemoved;
  node.onRemoved = function () {
    node.longreelRedraw?.disconnect();
    return removed?.apply(this, arguments);
  };
  onRun(node, (output) => show(node, output?.longreel_plan?.[0], output?.text?.[0]));
}

/**
 * Show the plan of a storyboard that is being written, which has not run.
 * @param {any} node
 * @param {any} plan  for the family that its graph tells
 */
export function preview(node, plan) {
  if (!node?.longreelPicture || node.longreelShown === identity(plan)) return;
  draw(node, plan, [t(BEFORE), "", ...plan.shots.map(rowWords), "", ...plan.notes].join("\n"));
  node.longreelPreview = true;
}

/**
 * @param {any} node
 * @param {any} plan
 * @param {string} [report]
 */
function show(node, plan, report = "") {
  if (!plan) return;
  node.longreelFamily = plan.family; // for the editor's dry run: storyboard/graph.js
  node.longreelPreview = false;
  draw(node, plan, report);
}

/**
 * Return what tells a plan from others: not its notes, which are more once a model is loaded.
 * @param {any} plan
 */
const identity = (plan) => JSON.stringify({ ...plan, notes: null });

/**
 * @param {any} node
 * @param {any} plan
 * @param {string} report
 */
function draw(node, plan, report) {
  node.longreelShown = identity(plan);
  const element = node.longreelPicture;
  showPlace(node, element, []);
  const wraps = report.includes(t(BEFORE));
  const pre = el("pre", { tabindex: 0, role: "region", "aria-label": t("Report"), "data-wraps": wraps }, report);
  const redraw = () => element.replaceChildren(timelinePicture(plan, Math.max(200, element.clientWidth - PADDING)), pre);
  redraw();
  node.longreelRedraw?.disconnect();
  node.longreelRedraw = new ResizeObserver(redraw);
  node.longreelRedraw.observe(element);
}

/**
 * Show what the last run planned, also when the page was opened anew since.
 * @param {any[]} nodes
 */
export async function showPlans(nodes) {
  const plans = nodes.filter((node) => node.longreelPicture?.hidden || node.longreelPreview);
  if (!plans.length) return;
  const entries = await latestEntries((path) => api.fetchApi(path), app.graph?.id);
  for (const node of plans) {
    const board = behindInput(node, "storyboard");
    const text = board?.widgets?.find((/** @type {any} */ one) => one.name === "text")?.value ?? null;
    const output = plannedOf(entries, node.id, inputsOf(node), text);
    show(node, output?.longreel_plan[0], output?.text?.[0]);
  }
}
