/**
 * Hides the settings that a chosen preset holds. Nodes 2.0 folds advanced inputs away by itself; the classic renderer
 * shows them all, and a setting that is shown and does nothing would mislead. Hidden ones keep their values.
 */
import { app } from "../../../scripts/app.js";

const CUSTOM = "custom"; // as in nodes/presets.py, whose presets hold these inputs; a test compares the two
/** @type {Record<string, string[]>} */
const HELD = {
  LongreelKVShare: [
    "mode", "source", "join", "placement", "strength", "share_text", "layers", "start_percent", "end_percent",
  ],
  LongreelLongMemory: ["anchor", "frames", "placement", "strength", "layers", "statistics"],
};

/**
 * @typedef {{name: string, value: unknown, hidden?: boolean, callback?: (...values: unknown[]) => unknown}} Widget
 * @typedef {{comfyClass?: string, widgets: Widget[], size: number[], computeSize: () => number[],
 *            setSize: (size: number[]) => void, onConfigure?: (saved: {size?: number[]}) => void}} Node
 */

/**
 * @param {Node} node
 * @param {string} preset
 */
function showSettings(node, preset) {
  const held = HELD[node.comfyClass ?? ""];
  for (const widget of node.widgets) {
    if (held.includes(widget.name.split(".")[0])) widget.hidden = preset !== CUSTOM;
  }
}

app.registerExtension({
  name: "Longreel.Presets",

  /** @param {Node} node */
  nodeCreated(node) {
    if (!HELD[node.comfyClass ?? ""]) return;
    const preset = node.widgets.find((widget) => widget.name === "preset");
    if (!preset) return;
    const chosen = preset.callback;
    preset.callback = function (...values) {
      const result = chosen?.apply(this, values);
      showSettings(node, String(preset.value));
      node.setSize([node.size[0], node.computeSize()[1]]);
      return result;
    };
    const configured = node.onConfigure;
    node.onConfigure = function (saved) {
      configured?.call(this, saved);
      showSettings(node, String(preset.value));
      if (preset.value !== CUSTOM) node.setSize([node.size[0], Math.max(saved.size?.[1] ?? 0, node.computeSize()[1])]);
    };
  },
});
