/**
 * The strip: shots to scale as blocks, the joints between them, the plan's segments below, and a bar over all of it.
 *
 * Only what can be seen is in the page, so a thousand shots cost no more than twenty. The mouse is dealt with here:
 * press chooses, a block's right edge drags its seconds, a block drags to another place, a joint's press changes it and
 * its wedge drags the overlap. The keyboard is keyboard.js; what a change does is the editor's.
 */
import { el, setAttribute, short } from "../dom.js";
import { t } from "../translate.js";
import { secondsOf, transitionOf } from "./board.js";
import { drawOverview } from "./overview.js";
import { scaleOf, shotAt } from "./scale.js";
import { segmentBars } from "./segments.js";
import { count, jointWords, MADE_WORDS, shotWords } from "./words.js";

/** @typedef {import("./scale.js").Scale} Scale */
/**
 * @typedef {object} StripState
 * @property {import("./board.js").Shot[]} shots
 * @property {number} chosen
 * @property {number[]} mistakes  how many each shot has
 * @property {(import("./words.js").Made | undefined)[]} made
 * @property {any} plan  engine/plan/rows.py, or null
 */
/**
 * @typedef {object} StripActions
 * @property {(index: number) => void} choose
 * @property {(index: number, seconds: number) => void} setSeconds
 * @property {(index: number, seconds: number) => void} setOverlap
 * @property {(from: number, to: number) => void} move
 * @property {(index: number) => void} cycleJoint
 * @property {() => void} editPrompt
 * @property {(index: number, file: File) => void} dropPicture
 * @property {() => void} endStep
 * @property {(image: string) => string} pictureUrl
 * @property {() => void} addShot
 */

const AHEAD = 200; // pixels beside what is seen that are drawn, too
const DRAG = 4; // pixels from which a press is a drag
const STEP = 0.1; // seconds that an edge is dragged by
const SHORTEST = 0.1; // seconds

export class Strip {
  /** @param {StripActions} actions */
  constructor(actions) {
    this.actions = actions;
    this.zoom = 1;
    /** @type {Map<number, HTMLElement>} */
    this.blocks = new Map();
    /** @type {StripState} */
    this.state = { shots: [], chosen: 0, mistakes: [], made: [], plan: null };
    /** @type {Scale} */
    this.scale = { starts: [], ends: [], width: 0, pixels: 1 };
    this.prefix = `longreel-${Math.random().toString(36).slice(2)}`;
    this.list = el("div", { class: "lr-shots", role: "listbox", tabindex: 0, "aria-label": t("Shots"), "aria-orientation": "horizontal" });
    this.joints = el("div", { class: "lr-joints", role: "group", "aria-label": t("Joints") });
    this.bars = el("div", { class: "lr-bars", "aria-hidden": "true" });
    this.inner = el("div", { class: "lr-inner" }, this.list, this.joints, this.bars);
    this.scroller = el("div", { class: "lr-scroller", tabindex: -1, onscroll: () => this.scrolled() }, this.inner);
    // What the page would have to be laid out for to tell is kept: asking costs more than drawing does.
    this.window = 400;
    this.left = 0;
    this.resized = new ResizeObserver(() => this.resize());
    this.resized.observe(this.scroller);
    this.add = el("button", { class: "lr-add", type: "button", title: t("Add a shot at the end"), "aria-label": t("Add a shot at the end"), onclick: () => actions.addShot() }, "+");
    this.overview = el("canvas", { class: "lr-overview", height: 8, "aria-hidden": "true", onpointerdown: (/** @type {PointerEvent} */ e) => this.jump(e) });
    this.element = el("div", { class: "lr-strip" }, el("div", { class: "lr-row" }, this.scroller, this.add), this.overview);
    this.list.addEventListener("pointerdown", (event) => this.press(event));
    this.list.addEventListener("dblclick", (event) => {
      if (event.target instanceof Element && event.target.closest(".lr-shot")) actions.editPrompt();
    });
    this.list.addEventListener("dragover", (event) => event.preventDefault());
    this.list.addEventListener("drop", (event) => this.drop(event));
    this.scroller.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    // ComfyUI takes Ctrl+Z for the graph unless a text is written in; here it belongs to the storyboard.
    Object.assign(this.list, { type: "textarea" });
  }

  /** @param {StripState} state */
  show(state) {
    this.state = state;
    this.rescale();
    this.draw();
  }

  resize() {
    const { clientWidth } = this.scroller;
    if (!clientWidth || clientWidth === this.window) return;
    this.window = clientWidth;
    this.rescale();
    this.draw();
  }

  scrolled() {
    const { scrollLeft } = this.scroller;
    if (scrollLeft === this.left) return;
    this.left = scrollLeft;
    this.draw();
  }

  rescale() {
    this.scale = scaleOf(this.state.shots.map(secondsOf), Math.max(200, this.window), this.zoom);
    this.inner.style.width = `${Math.ceil(this.scale.width)}px`;
  }

  /** Scroll so that the chosen shot is seen whole, or from its beginning. */
  reveal() {
    const { starts, ends } = this.scale;
    const { chosen } = this.state;
    let to = this.left;
    if (starts[chosen] < to || ends[chosen] - starts[chosen] > this.window) to = Math.max(0, starts[chosen] - 8);
    else if (ends[chosen] > to + this.window) to = ends[chosen] - this.window + 8;
    if (to === this.left) return;
    this.scroller.scrollLeft = to;
    this.scrolled();
  }

  /** @param {number} factor */
  zoomBy(factor) {
    this.zoom = factor === 0 ? 1 : Math.min(40, Math.max(0.05, this.zoom * factor));
    this.rescale();
    this.draw();
    this.reveal();
  }

  draw() {
    const { shots, chosen, plan } = this.state;
    if (!shots.length) return;
    const first = shotAt(this.scale, Math.max(0, this.left - AHEAD));
    const last = shotAt(this.scale, this.left + this.window + AHEAD);
    const seen = [];
    for (let index = first; index <= last; index += 1) seen.push(index);
    if (chosen < first || chosen > last) seen.push(chosen); // what screen readers are told of must be there
    const blocks = seen.map((index) => this.block(index));
    for (const [place, block] of blocks.entries())
      if (this.list.children[place] !== block) this.list.insertBefore(block, this.list.children[place] ?? null);
    while (this.list.children.length > blocks.length) this.list.lastElementChild?.remove();
    for (const index of this.blocks.keys()) if (!seen.includes(index)) this.blocks.delete(index);
    setAttribute(this.list, "aria-activedescendant", `${this.prefix}-${chosen}`);
    this.joints.replaceChildren(...seen.filter((index) => index > 0).map((index) => this.joint(index)));
    this.bars.replaceChildren(...(plan ? segmentBars(plan, this.scale, first, last) : []));
    this.drawOverview();
  }

  /**
   * Return the block of a shot: the one that is there as long as it says the same, so that a press is not lost on it.
   * @param {number} index
   */
  block(index) {
    const { shots, chosen, mistakes, made } = this.state;
    const words = shotWords(shots, index, mistakes[index] ?? 0, made[index]);
    const known = this.blocks.get(index);
    const same = known?.title === words && known.dataset.anchors === JSON.stringify(shots[index].anchors ?? null);
    const block = known && same ? known : this.newBlock(index, words);
    if (!same) this.blocks.set(index, block);
    block.style.left = `${this.scale.starts[index]}px`;
    block.style.width = `${this.scale.ends[index] - this.scale.starts[index] - 2}px`;
    block.style.transform = "";
    block.classList.remove("lr-moving");
    block.classList.toggle("lr-chosen", index === chosen);
    setAttribute(block, "aria-selected", String(index === chosen));
    return block;
  }

  /**
   * @param {number} index
   * @param {string} words
   */
  newBlock(index, words) {
    const { shots, mistakes, made } = this.state;
    const shot = shots[index];
    const anchors = Array.isArray(shot.anchors) ? shot.anchors : [];
    const picture = anchors.find((one) => typeof one?.image === "string");
    const state = made[index];
    return el(
      "div",
      {
        class: `lr-shot${mistakes[index] ? " lr-wrong" : ""}`,
        role: "option",
        id: `${this.prefix}-${index}`,
        "aria-setsize": shots.length,
        "aria-posinset": index + 1,
        title: words,
        "data-index": index,
        "data-anchors": JSON.stringify(shot.anchors ?? null),
      },
      el("span", { class: "lr-spoken" }, words),
      picture ? el("img", { class: "lr-thumb", src: this.actions.pictureUrl(picture.image), alt: "", draggable: "false" }) : null,
      el(
        "span",
        { class: "lr-top", "aria-hidden": "true" },
        el("span", { class: "lr-number" }, String(index + 1)),
        el("span", { class: "lr-seconds" }, t("{n} s", { n: short(secondsOf(shot)) })),
        shot.locked === true ? el("span", { class: "lr-lock" }, "🔒") : null,
      ),
      el("span", { class: "lr-prompt", "aria-hidden": "true" }, typeof shot.prompt === "string" ? shot.prompt : ""),
      state ? el("span", { class: "lr-made", "data-made": state, title: t(MADE_WORDS[state]) }) : null,
      el("span", { class: "lr-edge", title: t("Drag: seconds") }),
    );
  }

  /** @param {number} index */
  joint(index) {
    const shot = this.state.shots[index];
    const kind = transitionOf(shot);
    const overlap = kind === "blend" ? this.overlapPixels(index) : 0;
    const said = { n: index + 1, joint: jointWords(shot) };
    const words =
      kind === "blend"
        ? t("Joint before shot {n}: {joint}. Press to change it, drag for the overlap.", said)
        : t("Joint before shot {n}: {joint}. Press to change it.", said);
    const button = el("button", {
      class: "lr-joint",
      type: "button",
      tabindex: -1,
      "data-kind": kind,
      "data-index": index,
      "aria-label": words,
      title: words,
      onpointerdown: (/** @type {PointerEvent} */ event) => this.pressJoint(event, index),
    });
    button.style.left = `${this.scale.starts[index] - 1}px`;
    button.style.setProperty("--lr-overlap", `${Math.max(16, overlap)}px`);
    return button;
  }

  /**
   * Return how wide the overlap of a blend is: as written, as planned, or as a guess.
   * @param {number} index
   */
  overlapPixels(index) {
    return this.overlapSeconds(index) * this.scale.pixels;
  }

  /** @param {number} index */
  overlapSeconds(index) {
    const { shots, plan } = this.state;
    const written = shots[index].overlap_seconds;
    if (typeof written === "number" && written > 0) return written;
    const row = plan?.shots[index];
    return row ? (row.overlap_frames * plan.temporal_stride) / plan.fps : 0.25 * Math.min(secondsOf(shots[index - 1]), secondsOf(shots[index]));
  }

  drawOverview() {
    drawOverview(this.overview, this.scale, { left: this.left, width: this.window }, this.state);
  }

  // --- the mouse ---

  /**
   * Return pixels of the strip for pixels of the screen: ComfyUI scales nodes when its canvas is zoomed.
   * @param {Element} element
   */
  screenScale(element) {
    const box = element.getBoundingClientRect();
    return box.width && element instanceof HTMLElement && element.offsetWidth ? box.width / element.offsetWidth : 1;
  }

  /**
   * Follow a pointer from a press to its release.
   * @param {PointerEvent} event
   * @param {(moved: number, event: PointerEvent) => void} move  pixels of the strip since the press
   * @param {(dragged: boolean) => void} end
   */
  follow(event, move, end) {
    const from = event.clientX;
    const factor = this.screenScale(this.scroller);
    let dragged = false;
    const on = (/** @type {PointerEvent} */ now) => {
      if (!dragged && Math.abs(now.clientX - from) < DRAG) return;
      dragged = true;
      move((now.clientX - from) / factor, now);
    };
    const off = () => {
      window.removeEventListener("pointermove", on, true);
      window.removeEventListener("pointerup", off, true);
      window.removeEventListener("pointercancel", off, true);
      end(dragged);
      this.actions.endStep();
    };
    window.addEventListener("pointermove", on, true);
    window.addEventListener("pointerup", off, true);
    window.addEventListener("pointercancel", off, true);
    event.preventDefault();
    this.list.focus({ preventScroll: true });
  }

  /** @param {PointerEvent} event */
  press(event) {
    const target = event.target instanceof Element ? event.target : null;
    const block = target?.closest(".lr-shot");
    if (!(block instanceof HTMLElement) || event.button !== 0) return;
    const index = Number(block.dataset.index);
    this.actions.choose(index);
    if (target?.classList.contains("lr-edge")) {
      const { pixels } = this.scale;
      const seconds = secondsOf(this.state.shots[index]);
      this.follow(event, (moved, now) => this.actions.setSeconds(index, this.dragged(seconds + moved / pixels, now)), () => {});
      return;
    }
    let to = index;
    const start = this.scale.starts[index];
    const width = this.scale.ends[index] - start;
    this.follow(
      event,
      (moved) => {
        to = shotAt(this.scale, start + moved + width / 2);
        const shown = this.list.querySelector(`[data-index="${index}"]`);
        if (shown instanceof HTMLElement) {
          shown.style.transform = `translateX(${moved}px)`;
          shown.classList.add("lr-moving");
        }
      },
      (dragged) => {
        if (dragged && to !== index) this.actions.move(index, to);
        else this.draw();
      },
    );
  }

  /**
   * Return seconds as they are dragged: tenths, or the model's own frames with Alt.
   * @param {number} seconds
   * @param {PointerEvent} event
   */
  dragged(seconds, event) {
    const { plan } = this.state;
    const step = event.altKey && plan ? plan.temporal_stride / plan.fps : STEP;
    return Math.max(event.altKey ? step : SHORTEST, Math.round(seconds / step) * step);
  }

  /**
   * @param {PointerEvent} event
   * @param {number} index
   */
  pressJoint(event, index) {
    if (event.button !== 0) return;
    const shot = this.state.shots[index];
    const seconds = this.overlapSeconds(index);
    const longest = Math.min(secondsOf(this.state.shots[index - 1]), secondsOf(shot));
    this.actions.choose(index);
    this.follow(
      event,
      (moved) => {
        if (transitionOf(shot) !== "blend") return;
        const wanted = Math.round((seconds + (2 * moved) / this.scale.pixels) / STEP) * STEP;
        this.actions.setOverlap(index, Math.min(longest, Math.max(STEP, wanted)));
      },
      (dragged) => {
        if (!dragged) this.actions.cycleJoint(index);
      },
    );
  }

  /** @param {WheelEvent} event */
  wheel(event) {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      event.stopPropagation();
      this.zoomBy(event.deltaY < 0 ? 1.25 : 0.8);
    } else if (this.scale.width > this.window + 1) {
      event.preventDefault();
      event.stopPropagation();
      this.scroller.scrollLeft += event.deltaX + event.deltaY;
    }
  }

  /** @param {PointerEvent} event */
  jump(event) {
    const box = this.overview.getBoundingClientRect();
    const show = (/** @type {PointerEvent} */ now) => {
      this.scroller.scrollLeft = ((now.clientX - box.left) / box.width) * this.scale.width - this.window / 2;
    };
    show(event);
    this.follow(event, (_, now) => show(now), () => {});
  }

  /** @param {DragEvent} event */
  drop(event) {
    const block = event.target instanceof Element ? event.target.closest(".lr-shot") : null;
    const file = event.dataTransfer?.files[0];
    event.preventDefault();
    event.stopPropagation();
    if (file && block instanceof HTMLElement) this.actions.dropPicture(Number(block.dataset.index), file);
  }

  /** Return how many shots there are and how long they are, for the line above the strip. */
  summary() {
    const total = this.state.shots.reduce((sum, shot) => sum + secondsOf(shot), 0);
    return `${count(this.state.shots.length, "{n} shot", "{n} shots")}, ${t("{n} s", { n: short(total, 1) })}`;
  }
}
