/** The line of the storyboard itself: title, frames per second, size, seed, style; and for which model it is planned. */
import { el, setAttribute } from "../dom.js";
import { t } from "../translate.js";
import { boardNumber, written } from "./board.js";
import { asOptionalNumber, asOptionalText, asSeed } from "./card.js";

/** @typedef {import("./board.js").Board} Board */

let lines = 0;

export class BoardLine {
  /**
   * @param {(name: string, json: string | undefined, step: string) => void} setField
   * @param {() => void} endStep
   * @param {(family: string) => void} setFamily
   */
  constructor(setField, endStep, setFamily) {
    this.prefix = `longreel-board-${(lines += 1)}`;
    this.familyKey = "";
    /** @type {Record<string, HTMLInputElement>} */
    this.inputs = {};
    const field = (/** @type {string} */ name, /** @type {string} */ words, /** @type {(text: string) => string | undefined} */ json, /** @type {Record<string, any>} */ more = {}) => {
      const input = el("input", { type: "text", id: `${this.prefix}-${name}`, onblur: () => endStep(), ...more });
      input.addEventListener("input", () => setField(name, json(input.value), `board ${name}`));
      this.inputs[name] = input;
      return el("div", { class: `lr-field ${more.class ?? ""}` }, el("label", { for: input.id, class: "lr-label" }, words), input);
    };
    const number = { type: "number" };
    this.family = el("select", { id: `${this.prefix}-family`, onchange: () => setFamily(this.family.value) });
    this.summary = el("summary", {});
    this.element = el(
      "details",
      { class: "lr-board" },
      this.summary,
      el(
        "div",
        { class: "lr-fields" },
        field("title", t("Title"), asOptionalText, { class: "lr-wide" }),
        field("fps", t("Frames per s"), asOptionalNumber, { ...number, min: 1, max: 240, step: 1 }),
        field("width", t("Width, px"), asOptionalNumber, { ...number, min: 16, step: 16 }),
        field("height", t("Height, px"), asOptionalNumber, { ...number, min: 16, step: 16 }),
        field("seed", t("Seed"), asSeed, { inputmode: "numeric", placeholder: t("the sampler's") }),
        field("style", t("Style, added to every prompt"), asOptionalText, { class: "lr-wide" }),
        field("negative", t("Negative prompt of all shots"), asOptionalText, { class: "lr-wide" }),
        el("div", { class: "lr-field" }, el("label", { for: this.family.id, class: "lr-label" }, t("Plan for")), this.family),
      ),
    );
  }

  /**
   * @param {Board} board
   * @param {import("./check.js").Mistake[]} mistakes
   */
  show(board, mistakes) {
    const wrong = new Set(mistakes.filter((one) => one.shot === null).map((one) => one.path[0]));
    for (const [name, input] of Object.entries(this.inputs)) {
      setAttribute(input, "aria-invalid", wrong.has(name) ? "true" : null);
      if (document.activeElement === input) continue;
      const value = board.fields[name];
      const text = typeof value === "string" ? value : board.bare ? "" : written(board, [name]);
      if (input.value !== text) input.value = text;
      if (name === "fps" || name === "width" || name === "height") input.placeholder = String(boardNumber(board, name));
    }
    const [fps, width, height] = [boardNumber(board, "fps"), boardNumber(board, "width"), boardNumber(board, "height")];
    const words = t("Video: {width} × {height}, {fps} frames per second", { width, height, fps });
    this.summary.textContent = words + (board.fields.style ? t(", style") : "");
  }

  /**
   * @param {string[]} families
   * @param {string} chosen  "" is what the graph says
   * @param {string} found  by the graph
   */
  showFamilies(families, chosen, found) {
    const names = ["", ...families];
    const key = JSON.stringify([names, found]);
    if (this.familyKey !== key) {
      this.familyKey = key;
      this.family.replaceChildren(
        ...names.map((name) => el("option", { value: name }, name || (found ? t("as wired: {family}", { family: found }) : t("choose a model")))),
      );
    }
    this.family.value = chosen;
  }
}
