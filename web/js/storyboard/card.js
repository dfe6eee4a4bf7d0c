/** The card of the chosen shot: every field that a shot has, each under its name, with what is wrong beside it. */
import { el, setAttribute, short } from "../dom.js";
import { t } from "../translate.js";
import { pathOf, secondsOf, TRANSITIONS, transitionOf, written } from "./board.js";

/** @typedef {import("./board.js").Board} Board */
/** @typedef {import("./check.js").Mistake} Mistake */
/**
 * @typedef {object} CardActions
 * @property {(fields: Record<string, string | undefined>, step: string) => void} setFields  as JSON, of the chosen shot
 * @property {() => void} toggleLock
 * @property {() => void} makeAgain
 * @property {(file: File) => void} addPicture
 * @property {() => void} endStep
 * @property {(image: string) => string} pictureUrl
 */

let cards = 0;

export class Card {
  /** @param {CardActions} actions */
  constructor(actions) {
    this.actions = actions;
    this.prefix = `longreel-card-${(cards += 1)}`;
    /** @type {Record<string, HTMLInputElement | HTMLTextAreaElement>} */
    this.inputs = {};
    const end = () => actions.endStep();
    this.heading = el("h3", { class: "lr-heading" });
    this.prompt = this.field("prompt", el("textarea", { rows: 2, placeholder: t("What this shot shows"), onblur: end }), (text) => JSON.stringify(text));
    const number = (/** @type {Record<string, any>} */ more) => el("input", { type: "number", onblur: end, ...more });
    this.seconds = this.field("seconds", number({ step: 0.1, min: 0.1, max: 3600 }), asNumber);
    this.overlap = this.field("overlap_seconds", number({ step: 0.1, min: 0.1, placeholder: t("plan's") }), asOptionalNumber);
    this.seed = this.field("seed", el("input", { type: "text", inputmode: "numeric", placeholder: t("storyboard's"), onblur: end }), asSeed);
    this.strength = this.field("strength", number({ step: 0.05, min: 0, max: 10, placeholder: "1" }), asOptionalNumber);
    this.negative = this.field("negative", el("textarea", { rows: 1, placeholder: t("the storyboard's"), onblur: end }), asOptionalText);
    this.focus = this.field("focus", el("input", { type: "text", placeholder: t("words, with commas between"), onblur: end }), asWords);
    this.id = this.field("id", el("input", { type: "text", placeholder: t("none"), maxlength: 64, onblur: end }), asOptionalText);
    this.lora = this.field("lora", el("input", { type: "text", placeholder: "ink.safetensors @ 0.8 | …", onblur: end }), (text) => asParts(text, "strength"));
    this.audio = this.field("audio", el("input", { type: "text", placeholder: "speech.wav @ 2.5", onblur: end }), (text) => asParts(text, "offset", true));
    this.joint = el("div", { class: "lr-switch", role: "radiogroup", "aria-label": t("Transition from the shot before") });
    for (const kind of TRANSITIONS) {
      const radio = el("input", { type: "radio", name: `${this.prefix}-transition`, value: kind, onchange: () => this.setTransition(kind) });
      this.joint.append(el("label", {}, radio, el("span", {}, t(kind))));
    }
    this.lock = el("button", { type: "button", class: "lr-button", onclick: () => actions.toggleLock() });
    this.again = el("button", { type: "button", class: "lr-button", title: t("Gives the shot a new seed, so that the next run makes it again"), onclick: () => actions.makeAgain() }, t("Make again"));
    this.anchors = el("ul", { class: "lr-anchors" });
    this.file = el("input", { type: "file", accept: "image/*", class: "lr-file", tabindex: -1, "aria-label": t("Picture file"), onchange: () => this.chosenFile() });
    const add = el("button", { type: "button", class: "lr-button", onclick: () => this.file.click() }, t("Add picture…"));
    this.more = el(
      "details",
      { class: "lr-more" },
      el("summary", {}, t("More")),
      el("div", { class: "lr-fields" }, this.labelled("strength", t("Strength")), this.labelled("id", t("Id")), this.labelled("focus", t("Focus words"), "lr-wide")),
      this.labelled("negative", t("Negative prompt"), "lr-wide"),
      this.labelled("lora", t("LoRAs of this shot"), "lr-wide"),
      this.labelled("audio", t("Sound to hear"), "lr-wide"),
    );
    this.pictures = el("div", { class: "lr-pictures" }, this.anchors, add, this.file);
    this.jointField = el("div", { class: "lr-field" }, el("span", { class: "lr-label", "aria-hidden": "true" }, t("Transition")), this.joint);
    this.overlapField = this.labelled("overlap_seconds", t("Overlap, s"));
    this.element = el(
      "section",
      { class: "lr-card", "aria-label": t("Chosen shot") },
      el("div", { class: "lr-cardhead" }, this.heading, this.lock, this.again),
      this.labelled("prompt", t("Prompt"), "lr-wide lr-prompt-field"),
      el("div", { class: "lr-fields" }, this.labelled("seconds", t("Seconds")), this.jointField, this.overlapField, this.labelled("seed", t("Seed"))),
      this.pictures,
      this.more,
    );
    this.element.addEventListener("dragover", (event) => event.preventDefault());
    this.element.addEventListener("drop", (event) => {
      const file = event.dataTransfer?.files[0];
      event.preventDefault();
      event.stopPropagation();
      if (file) actions.addPicture(file);
    });
  }

  /**
   * @param {Board} board
   * @param {number} index
   * @param {Mistake[]} mistakes  of this shot
   */
  show(board, index, mistakes) {
    const shot = board.shots[index];
    this.board = board;
    this.index = index;
    const wrong = new Set(mistakes.map((one) => one.path[2]));
    this.heading.textContent = t("Shot {n}", { n: index + 1 });
    for (const [name, input] of Object.entries(this.inputs)) {
      setAttribute(input, "aria-invalid", wrong.has(name) ? "true" : null);
      if (document.activeElement !== input || input.dataset.shot !== String(index)) {
        const text = this.shown(name, board, index);
        if (input.value !== text) input.value = text;
        input.dataset.shot = String(index);
      }
    }
    const kind = transitionOf(shot);
    for (const radio of this.joint.querySelectorAll("input")) radio.checked = radio.value === kind;
    this.jointField.hidden = index === 0;
    this.overlapField.hidden = index === 0 || kind !== "blend";
    const locked = shot.locked === true;
    this.lock.textContent = locked ? `🔒 ${t("Locked")}` : t("Lock");
    setAttribute(this.lock, "aria-pressed", String(locked));
    this.lock.title = locked ? t("The next run keeps this shot as it is; press to unlock") : t("A finished shot of a rollout with a run name stays as it is");
    this.showAnchors(shot);
  }

  /** @param {import("./board.js").Shot} shot */
  showAnchors(shot) {
    const anchors = Array.isArray(shot.anchors) ? shot.anchors : [];
    const key = JSON.stringify(anchors);
    if (this.anchorKey === `${this.index}${key}` || this.anchors.contains(document.activeElement)) return;
    this.anchorKey = `${this.index}${key}`;
    this.anchors.replaceChildren(
      ...anchors.map((anchor, place) => {
        const image = typeof anchor?.image === "string" ? anchor.image : "";
        const at = el("input", { type: "number", min: 0, step: 0.1, value: anchor?.at ?? "", "aria-label": t("Second of picture {n}", { n: place + 1 }), oninput: () => this.setAnchor(place, "at", Number(at.value) || 0), onblur: () => this.actions.endStep() });
        const name = el("input", { type: "text", value: image, "aria-label": t("File of picture {n}, below the input folder", { n: place + 1 }), oninput: () => this.setAnchor(place, "image", name.value), onblur: () => this.actions.endStep() });
        const remove = el("button", { type: "button", class: "lr-button", "aria-label": t("Remove picture {n}", { n: place + 1 }), onclick: () => this.setAnchors(anchors.filter((_, other) => other !== place)) }, "✕");
        return el("li", {}, el("img", { src: this.actions.pictureUrl(image), alt: "" }), name, el("span", { class: "lr-label" }, t("at")), at, el("span", { class: "lr-label" }, t("s")), remove);
      }),
    );
  }

  /**
   * @param {number} place
   * @param {"at" | "image"} name
   * @param {number | string} value
   */
  setAnchor(place, name, value) {
    const anchors = structuredClone(this.board?.shots[this.index ?? 0].anchors ?? []);
    anchors[place] = { ...anchors[place], [name]: value };
    this.setAnchors(anchors, `anchor ${place} ${name}`);
  }

  /**
   * @param {import("./board.js").Anchor[]} anchors
   * @param {string} [step]
   */
  setAnchors(anchors, step = "") {
    this.actions.setFields({ anchors: anchors.length ? JSON.stringify(anchors) : undefined }, step);
  }

  chosenFile() {
    const file = this.file.files?.[0];
    this.file.value = "";
    if (file) this.actions.addPicture(file);
  }

  /** @param {string} kind */
  setTransition(kind) {
    const overlap = kind === "blend" ? {} : { overlap_seconds: undefined }; // without a blend there is none
    this.actions.setFields({ ...overlap, transition: kind === "continue" ? undefined : JSON.stringify(kind) }, "");
  }

  /** Put the cursor into the prompt. */
  editPrompt() {
    this.prompt.focus({ preventScroll: true });
    this.prompt.select();
  }

  /**
   * Return what a field shows.
   * @param {string} name
   * @param {Board} board
   * @param {number} index
   */
  shown(name, board, index) {
    const value = board.shots[index][name];
    if (name === "focus") return Array.isArray(value) ? value.join(", ") : "";
    if (name === "lora" && Array.isArray(value)) return value.map((one) => partText(one, "strength")).join(" | ");
    if (name === "audio" && value) return partText(value, "offset");
    if (typeof value === "string") return value;
    if (name === "seconds" && typeof value === "number") return short(secondsOf(board.shots[index]));
    return written(board, pathOf(board, index, name));
  }

  /**
   * @template {HTMLInputElement | HTMLTextAreaElement} T
   * @param {string} name
   * @param {T} input
   * @param {(text: string) => string | undefined | null} json  null: nothing is written yet
   * @returns {T}
   */
  field(name, input, json) {
    input.id = `${this.prefix}-${name}`;
    input.addEventListener("input", () => {
      const value = json(input.value);
      if (value !== null) this.actions.setFields({ [name]: value }, `${name} ${this.index}`);
    });
    this.inputs[name] = input;
    return input;
  }

  /**
   * @param {string} name
   * @param {string} words
   * @param {string} [classes]
   */
  labelled(name, words, classes = "") {
    return el("div", { class: `lr-field ${classes}` }, el("label", { for: `${this.prefix}-${name}`, class: "lr-label" }, words), this.inputs[name]);
  }
}

// What is typed becomes JSON; what is no number is written as it is, so that the check can say what is wrong with it.

/** @param {string} text */
export const asNumber = (text) => (text.trim() === "" ? null : asOptionalNumber(text) ?? null);

/** @param {string} text */
export const asOptionalNumber = (text) => (text.trim() === "" ? undefined : Number.isFinite(Number(text)) ? String(Number(text)) : JSON.stringify(text));

/** @param {string} text */
export const asSeed = (text) => (text.trim() === "" ? undefined : /^(0|[1-9]\d*)$/.test(text.trim()) ? text.trim() : JSON.stringify(text));

/** @param {string} text */
export const asOptionalText = (text) => (text === "" ? undefined : JSON.stringify(text));

/** @param {string} text */
const asWords = (text) => {
  const words = text.split(",").map((one) => one.trim()).filter(Boolean);
  return words.length ? `[${words.map((one) => JSON.stringify(one)).join(", ")}]` : undefined;
};

/**
 * Return a file and its number as a table writes them: file @ number.
 * @param {any} part
 * @param {string} number
 */
const partText = (part, number) => (typeof part === "object" ? [part?.file ?? "", ...(part?.[number] == null ? [] : [part[number]])].join(" @ ") : String(part));

/**
 * Return files that are written as a table writes them, file @ number | file, as JSON.
 * @param {string} text
 * @param {string} number  its key
 * @param {boolean} [single]  all of the text is one file
 */
const asParts = (text, number, single = false) => {
  const items = (single ? [text] : text.split("|")).map((one) => one.trim()).filter(Boolean);
  const parts = items.map((one) => {
    const [, file, value] = one.match(/^(.*?)\s*(?:@\s*([^@]*))?$/s) ?? [];
    const json = value === undefined ? undefined : asOptionalNumber(value);
    return `{"file": ${JSON.stringify(file)}${json === undefined ? "" : `, "${number}": ${json}`}}`;
  });
  if (!parts.length) return undefined;
  return single ? parts[0] : `[${parts.join(", ")}]`;
};
