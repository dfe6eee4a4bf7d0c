/**
 * The storyboard editor on the node Longreel Storyboard, in the classic renderer and in Nodes 2.0.
 *
 * What the node stores is the value of its `text` widget, as without JavaScript. The editor is one more widget, which is
 * neither saved nor queued; while it is shown, the text box is hidden.
 */
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { latestEntries, runOf } from "./after_run.js";
import { addStyle } from "./dom.js";
import { preview } from "./plan_node.js";
import { Editor } from "./storyboard/editor.js";
import { familyOf, inputsOf, isWired, planOf } from "./storyboard/graph.js";
import { selectLine } from "./storyboard/mistakes.js";

const WIDTH = 520; // pixels of a new node
const HEIGHT = 470;
const LEAST = 240; // pixels of the editor
const LEAST_AS_TEXT = 64;

/**
 * Give a node its editor.
 * @param {any} node
 */
export function addEditor(node) {
  const text = node.widgets?.find((/** @type {any} */ one) => one.name === "text");
  if (!text || node.longreelEditor) return;
  addStyle();
  const editor = new Editor(hostOf(node, text), text.value);
  node.longreelEditor = editor;
  const widget = node.addDOMWidget("storyboard_editor", "longreel_storyboard", editor.element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => (editor.frame.body.hidden ? LEAST_AS_TEXT : LEAST),
    getMaxHeight: () => (editor.frame.body.hidden ? LEAST_AS_TEXT + (editor.answer.mistakes.length ? 80 : 0) : undefined),
    getValue: () => "",
    setValue: () => {},
    onDraw: () => editor.refresh(text.value),
  });
  widget.serialize = false;
  follow(node, text, editor);
  const removed = node.onRemoved;
  node.onRemoved = function () {
    editor.strip.resized.disconnect();
    editor.check.stop();
    return removed?.apply(this, arguments);
  };
  editor.show();
  node.setSize([Math.max(node.size[0], WIDTH), Math.max(node.size[1], HEIGHT)]);
}

/**
 * Tell the editor of every text that it did not write itself.
 * @param {any} node
 * @param {any} text
 * @param {Editor} editor
 */
function follow(node, text, editor) {
  const before = text.callback;
  text.callback = function () {
    const result = before?.apply(this, arguments);
    editor.refresh(text.value);
    return result;
  };
  for (const name of ["onConfigure", "onConnectionsChange", "onAdded"]) {
    const own = node[name];
    node[name] = function () {
      const result = own?.apply(this, arguments);
      queueMicrotask(() => {
        editor.refresh(text.value);
        editor.read();
      });
      setTimeout(() => takePlace(node, editor), 300);
      return result;
    };
  }
  editor.element.addEventListener("pointerenter", () => {
    editor.refresh(text.value);
    editor.ask(0); // the graph around it may have changed
  });
}

/**
 * Put the editor where Nodes 2.0 still shows that of another node: one that had the same id until now. It looks for the
 * element of a widget only when its own part of the page is made.
 * @param {any} node
 * @param {Editor} editor
 */
function takePlace(node, editor) {
  if (!editor.element.isConnected && node.graph)
    document.querySelector(`[data-node-id="${node.id}"] .lr-editor`)?.replaceWith(editor.element);
}

/**
 * @param {any} node
 * @param {any} text  the widget
 * @returns {import("./storyboard/editor.js").Host}
 */
function hostOf(node, text) {
  return {
    write(value) {
      text.value = value;
      node.graph?.setDirtyCanvas?.(true, true);
      noteChange();
    },
    wired: () => isWired(node),
    showText: (shown) => showWidget(node, text, shown),
    goToLine: (line) => selectLine(textBoxOf(node, text), line),
    fetchApi: (path, options) => api.fetchApi(path, options),
    pictureUrl(image) {
      const parts = image.split("/");
      const query = new URLSearchParams({ filename: parts.pop() ?? "", subfolder: parts.join("/"), type: "input" });
      return api.apiURL(`/view?${query}`);
    },
    async upload(file) {
      const body = new FormData();
      body.append("image", file);
      const response = await api.fetchApi("/upload/image", { method: "POST", body });
      if (!response.ok) throw new Error(`status ${response.status}`);
      const { name, subfolder } = await response.json();
      return subfolder ? `${subfolder}/${name}` : name;
    },
    planned() {
      const plan = planOf(node);
      return { family: familyOf(plan), inputs: inputsOf(plan) };
    },
    drawPlan: (plan) => preview(planOf(node), plan),
  };
}

/**
 * Show a widget or hide it, in both renderers.
 * @param {any} node
 * @param {any} widget
 * @param {boolean} shown
 */
function showWidget(node, widget, shown) {
  const kept = widget._state?.options; // what Nodes 2.0 keeps of it, and keeps of a widget that had its place before
  if (widget.hidden === !shown && (!kept || kept.hidden === !shown)) return;
  widget.hidden = !shown;
  if (widget.options) widget.options.hidden = !shown;
  if (kept) kept.hidden = !shown;
  const widgets = node.widgets;
  widgets.push(widgets.pop()); // Nodes 2.0 looks at its widgets again when the list changes
  node.setDirtyCanvas?.(true, true);
}

/**
 * Return the box in which the text is written: the widget's own, or that of Nodes 2.0.
 * @param {any} node
 * @param {any} text
 * @returns {HTMLTextAreaElement | null}
 */
function textBoxOf(node, text) {
  if (text.element instanceof HTMLTextAreaElement && text.element.isConnected && text.element.offsetParent) return text.element;
  return document.querySelector(`[data-node-id="${node.id}"] textarea`);
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let noting;

/** Let ComfyUI see that the workflow has changed, a moment after the last change. */
function noteChange() {
  clearTimeout(noting);
  noting = setTimeout(() => {
    const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
    (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker);
  }, 500);
}

/**
 * Show what the last run made of every storyboard's shots.
 * @param {any[]} nodes
 */
export async function showRuns(nodes) {
  const editors = nodes.filter((node) => node.longreelEditor);
  if (!editors.length) return;
  const entries = await latestEntries((path) => api.fetchApi(path), app.graph?.id);
  for (const node of editors) node.longreelEditor.setRun(runOf(entries, node.id));
}
