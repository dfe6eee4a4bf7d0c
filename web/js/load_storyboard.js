/**
 * Gives Longreel Load Storyboard a button that uploads a file, and takes a file that is dropped on the node. Core's
 * own upload widget is for pictures and videos alone; its route takes any file.
 */
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { t } from "./translate.js";

const NODE = "LongreelLoadStoryboard";
const ENDINGS = [".json", ".csv", ".jsonl"]; // those of engine/storyboard/files.py

/**
 * @typedef {{name: string, value: unknown, serialize?: boolean, label?: string, options: {values: string[]},
 *            callback?: (value: string) => void}} Widget
 * @typedef {{comfyClass?: string, widgets: Widget[], onDragOver?: (event: DragEvent) => boolean,
 *            onDragDrop?: (event: DragEvent) => boolean | Promise<boolean>,
 *            addWidget: (kind: string, name: string, value: string, press: () => void, options: object) => Widget,
 *            graph?: {setDirtyCanvas: (front: boolean, back: boolean) => void}}} Node
 */

/** @param {string} why */
function complain(why) {
  app.extensionManager.toast.add({ severity: "error", summary: "Longreel Load Storyboard", detail: why, life: 10000 });
}

/**
 * Put a file into ComfyUI's input folder and choose it in the node.
 * @param {Node} node
 * @param {File} file
 */
async function upload(node, file) {
  if (!ENDINGS.some((ending) => file.name.toLowerCase().endsWith(ending))) {
    complain(t("{file} is no storyboard; use a file that ends in {endings}", { file: file.name, endings: ENDINGS.join(", ") }));
    return;
  }
  const body = new FormData();
  body.append("image", file); // the route's word for what it is given
  const answer = await api.fetchApi("/upload/image", { method: "POST", body });
  if (answer.status !== 200) {
    complain(t("ComfyUI did not take {file}: {why}", { file: file.name, why: `${answer.status} ${answer.statusText}` }));
    return;
  }
  const { name } = await answer.json();
  const chosen = node.widgets.find((widget) => widget.name === "file");
  if (!chosen) return;
  if (!chosen.options.values.includes(name)) chosen.options.values.push(name);
  chosen.value = name;
  chosen.callback?.(name);
  node.graph?.setDirtyCanvas(true, true);
}

/** @param {Node} node */
function chooseFile(node) {
  const input = document.createElement("input");
  input.type = "file";
  input.accept = ENDINGS.join(",");
  input.onchange = () => input.files?.[0] && upload(node, input.files[0]);
  input.click();
}

app.registerExtension({
  name: "Longreel.LoadStoryboard",

  /** @param {Node} node */
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const chosen = node.widgets.find((widget) => widget.name === "file");
    if (chosen) chosen.value ??= ""; // an empty folder has nothing to choose, which the editor shows as "undefined"
    const button = node.addWidget("button", "upload", "", () => chooseFile(node), { serialize: false });
    button.label = t("choose file to upload");
    button.serialize = false; // saved graphs stay as they were
    node.onDragOver = (event) => [...(event.dataTransfer?.items ?? [])].some((item) => item.kind === "file");
    node.onDragDrop = (event) => {
      const file = event.dataTransfer?.files[0];
      if (!file) return false;
      upload(node, file);
      return true;
    };
  },
});
