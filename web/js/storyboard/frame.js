/** The frame of the editor: the line on top with its buttons, the mistakes, the parts below each other. */
import { el } from "../dom.js";
import { t } from "../translate.js";
import { keyWords } from "./keyboard.js";

/**
 * @param {{strip: HTMLElement, card: HTMLElement, line: HTMLElement}} parts
 * @param {{undo: () => void, redo: () => void, toggleText: () => void, zoom: (factor: number) => void}} actions  zoom 0 is
 *   the usual size
 */
export function frameOf(parts, actions) {
  const button = (/** @type {string} */ sign, /** @type {string} */ words, /** @type {() => void} */ act) =>
    el("button", { type: "button", class: "lr-button", title: words, "aria-label": words, onclick: act }, sign);
  const undo = button("↶", t("Undo (Ctrl+Z)"), actions.undo);
  const redo = button("↷", t("Redo (Ctrl+Y)"), actions.redo);
  const text = button("{ }", t("Show the text"), actions.toggleText);
  const tools = el(
    "div",
    { class: "lr-tools", role: "toolbar", "aria-label": t("Storyboard") },
    undo,
    redo,
    button("−", t("Show more shots at once"), () => actions.zoom(0.67)),
    button("+", t("Show fewer shots, larger"), () => actions.zoom(1.5)),
    button("⤢", t("The usual size"), () => actions.zoom(0)),
  );
  const summary = el("span", { class: "lr-summary" });
  const mistakes = el("ul", { class: "lr-mistakes", "aria-label": t("Mistakes") });
  const plan = el("div", { class: "lr-plan", role: "note", "aria-label": t("Plan"), tabindex: 0 });
  const live = el("div", { class: "lr-live", role: "status", "aria-live": "polite" });
  const mouse = t("Drag a block to move it, its right edge for seconds, the wedge of a blend for its overlap; press a joint to change it.");
  const keys = el("details", { class: "lr-keys" }, el("summary", {}, t("Keys and mouse")), el("p", { class: "lr-help" }, `${keyWords()}. ${mouse}`));
  const body = el(
    "div",
    { class: "lr-body" },
    parts.strip,
    plan,
    el("div", { class: "lr-scroll" }, parts.card, parts.line, keys),
  );
  const head = el("div", { class: "lr-head" }, summary, tools, text);
  const element = el("div", { class: "lr-editor", role: "group", "aria-label": t("Storyboard editor") }, head, mistakes, body, live);
  for (const kind of ["keyup", "keypress", "copy", "cut", "paste", "dblclick", "contextmenu"])
    element.addEventListener(kind, (event) => event.stopPropagation()); // the canvas has its own meaning for them
  element.addEventListener("wheel", keepScrolling, { passive: false });
  return { element, body, tools, summary, mistakes, plan, live, undo, redo, text };
}

/**
 * Let the wheel scroll what can scroll, and leave the rest to the canvas.
 * @param {WheelEvent} event
 */
function keepScrolling(event) {
  const parts = ".lr-scroll, textarea, .lr-mistakes, .lr-plan";
  const area = event.target instanceof Element ? event.target.closest(parts) : null;
  if (area && area.scrollHeight > area.clientHeight && !event.ctrlKey) event.stopPropagation();
}
