/**
 * The storyboard editor: strip, card and board line over one text, one history of changes, and the check.
 *
 * It keeps the text, the chosen shot, and nothing else that lasts. Where it lives, and how the text is stored, is its
 * host's (storyboard_node.js): `host.write` takes every text that the editor makes.
 */
import { setAttribute, short } from "../dom.js";
import { statesOf } from "../after_run.js";
import { t } from "../translate.js";
import * as boards from "./board.js";
import { BoardLine } from "./board_line.js";
import { Card } from "./card.js";
import { Check } from "./check.js";
import { frameOf } from "./frame.js";
import { History } from "./history.js";
import { commandOf, historyCommandOf } from "./keyboard.js";
import { showMistakes } from "./mistakes.js";
import { planWords } from "./plan_words.js";
import { Strip } from "./strip.js";
import { count } from "./words.js";

const WIRED = "The text comes through a wire.";

/**
 * @typedef {object} Host
 * @property {(text: string) => void} write
 * @property {() => boolean} wired  whether the text comes through a wire
 * @property {(shown: boolean) => void} showText  the text box instead of the editor
 * @property {(line: number) => void} goToLine  of the text box
 * @property {(path: string, options?: any) => Promise<Response>} fetchApi
 * @property {(image: string) => string} pictureUrl
 * @property {(file: File) => Promise<string>} upload  the picture's name below the input folder
 * @property {() => {family: string, inputs: Record<string, number>}} planned  what the graph says
 * @property {(plan: any) => void} drawPlan  in the node that makes it
 */

export class Editor {
  /**
   * @param {Host} host
   * @param {string} text
   */
  constructor(host, text) {
    this.host = host;
    this.text = text;
    this.chosen = 0;
    this.asText = false; // as the user wants it; a text that is no storyboard is shown as text anyway
    this.family = "";
    /** @type {import("./check.js").Answer} */
    this.answer = { mistakes: [], more: 0, plan: null, refused: "", families: [] };
    this.edited = false;
    this.checked = ""; // the text that the answer is about
    this.trouble = "";
    /** @type {import("../after_run.js").Run | null} */
    this.run = null;
    this.history = new History({ text, chosen: 0 });
    this.lastEdit = 0; // milliseconds that the last edit took; tests measure it
    this.check = new Check(
      host.fetchApi,
      (answer, question) => this.hear(answer, question),
      (why) => this.fail(why),
    );
    this.strip = new Strip({
      choose: (index) => this.choose(index),
      setSeconds: (index, seconds) => this.setFields(index, { seconds: short(seconds) }, `seconds ${index}`),
      setOverlap: (index, seconds) => this.setFields(index, { overlap_seconds: short(seconds) }, `overlap ${index}`),
      move: (from, to) => this.move(from, to),
      cycleJoint: (index) => this.cycleJoint(index),
      editPrompt: () => this.card.editPrompt(),
      dropPicture: (index, file) => this.addPicture(index, file),
      endStep: () => this.history.pause(),
      pictureUrl: host.pictureUrl,
      addShot: () => this.insert(this.shots.length),
    });
    this.card = new Card({
      setFields: (fields, step) => this.setFields(this.chosen, fields, step),
      toggleLock: () => this.toggleLock(),
      makeAgain: () => this.makeAgain(),
      addPicture: (file) => this.addPicture(this.chosen, file),
      endStep: () => this.history.pause(),
      pictureUrl: host.pictureUrl,
    });
    this.line = new BoardLine(
      (name, json, step) => this.board && this.commit(boards.withBoardField(this.board, name, json), this.chosen, step),
      () => this.history.pause(),
      (family) => {
        this.family = family;
        this.ask(0);
      },
    );
    this.frame = frameOf(
      { strip: this.strip.element, card: this.card.element, line: this.line.element },
      {
        undo: () => this.undo(),
        redo: () => this.redo(),
        toggleText: () => this.setAsText(!this.asText),
        zoom: (factor) => this.strip.zoomBy(factor),
      },
    );
    this.element = this.frame.element;
    this.element.addEventListener("keydown", (event) => this.key(event));
    /** @type {import("./board.js").Board | null} */
    this.board = null;
    this.why = "";
    this.found = ""; // the family that the graph tells
    this.read();
  }

  get shots() {
    return this.board?.shots ?? [];
  }

  /** Take a text that was changed elsewhere: typed into the text box, loaded, undone by ComfyUI. @param {string} text */
  refresh(text) {
    if (text === this.text) return;
    const loaded = !this.edited && !this.asText && this.board; // nothing of this text's history is here
    this.text = text;
    if (loaded) this.history = new History({ text, chosen: 0 });
    else this.history.push({ text, chosen: this.chosen }, "elsewhere");
    this.read();
  }

  /** Read the text, show it, and have it checked. */
  read() {
    const { board, why } = this.host.wired() ? { board: null, why: WIRED } : boards.read(this.text);
    [this.board, this.why] = [board, why ?? ""];
    this.chosen = Math.max(0, Math.min(this.chosen, this.shots.length - 1));
    this.show();
    this.ask();
  }

  /**
   * Change the text.
   * @param {string} text
   * @param {number} chosen  the shot that is chosen then
   * @param {string} [step]  changes under one name that follow each other are undone together
   */
  commit(text, chosen, step = "") {
    const start = performance.now();
    const before = this.shots.length;
    this.chosen = chosen;
    if (text !== this.text) {
      [this.edited, this.text] = [true, text];
      this.history.push({ text, chosen }, step);
      this.host.write(text);
    }
    this.board = boards.read(text).board;
    if (this.shots.length !== before) this.answer = { ...this.answer, mistakes: [] }; // they stand at other shots now
    this.read();
    this.strip.reveal();
    this.lastEdit = performance.now() - start;
  }

  /** @param {number} [pause] */
  ask(pause) {
    if (this.why !== WIRED) this.check.ask(() => this.question(), pause);
  }

  question() {
    const { family, inputs } = this.host.planned();
    this.found = family;
    const wanted = this.family || family;
    return { text: this.text, plan: wanted ? { ...inputs, family: wanted } : null };
  }

  /**
   * @param {import("./check.js").Answer} answer
   * @param {import("./check.js").Question} question
   */
  hear(answer, question) {
    if (question.text !== this.text) return false;
    this.answer = answer;
    this.checked = question.text;
    this.trouble = "";
    this.show();
    if (answer.plan) this.host.drawPlan(answer.plan);
    const wrong = answer.mistakes.length + answer.more;
    this.frame.live.textContent = wrong ? `${count(wrong, "{n} mistake", "{n} mistakes")}. ${answer.mistakes[0].message}` : "";
    return true;
  }

  /** @param {string} why */
  fail(why) {
    this.trouble = why;
    this.show();
  }

  show() {
    const { board, answer } = this;
    const text = this.asText || !board;
    this.frame.body.hidden = text;
    this.frame.tools.hidden = text;
    this.host.showText(text);
    setAttribute(this.element, "data-mode", text ? "text" : "editor");
    setAttribute(this.frame.text, "aria-pressed", String(text));
    this.frame.text.disabled = !board;
    const words = !board ? t(this.why) : text ? t("Show the shots") : t("Show the text");
    for (const name of ["title", "aria-label"]) setAttribute(this.frame.text, name, words);
    this.frame.text.textContent = text ? t("Shots") : "{ }";
    showMistakes(this.frame.mistakes, this.why === WIRED ? [] : answer.mistakes, answer.more, (one) => this.goTo(one));
    if (!board) {
      this.frame.summary.textContent = t(this.why);
      return;
    }
    const counts = board.shots.map(() => 0);
    for (const one of answer.mistakes) if (one.shot && one.shot <= counts.length) counts[one.shot - 1] += 1;
    const plan = answer.plan?.shots.length === board.shots.length ? answer.plan : null;
    this.strip.show({ shots: board.shots, chosen: this.chosen, mistakes: counts, made: statesOf(board, this.run), plan });
    this.card.show(board, this.chosen, answer.mistakes.filter((one) => one.shot === this.chosen + 1));
    this.line.show(board, answer.mistakes);
    this.line.showFamilies(answer.families, this.family, this.found);
    this.frame.summary.textContent = this.strip.summary();
    this.showPlan(plan);
    this.frame.undo.disabled = !this.history.before.length;
    this.frame.redo.disabled = !this.history.after.length;
  }

  /** @param {any} plan */
  showPlan(plan) {
    const wrong = this.trouble || this.answer.refused;
    const words = wrong || (plan ? planWords(plan, this.chosen) : this.answer.plan ? "…" : ""); // …: being asked for
    this.frame.plan.textContent = words;
    this.frame.plan.title = words;
    this.frame.plan.hidden = !words;
    setAttribute(this.frame.plan, "data-wrong", wrong ? "true" : null);
  }

  /** @param {import("./check.js").Mistake} mistake */
  goTo(mistake) {
    if (this.frame.body.hidden) {
      if (mistake.line) this.host.goToLine(mistake.line);
      return;
    }
    const field = String(mistake.path[mistake.shot ? 2 : 0] ?? "");
    if (mistake.shot) this.choose(mistake.shot - 1);
    else this.line.element.open = true;
    const input = mistake.shot ? this.card.inputs[field] : this.line.inputs[field];
    if (input && this.card.more.contains(input)) this.card.more.open = true;
    (input ?? this.strip.list).focus();
  }

  // --- what can be done ---

  /** @param {number} index */
  choose(index) {
    if (index === this.chosen) return;
    this.history.pause();
    this.chosen = index;
    this.show();
    this.strip.reveal();
  }

  /**
   * @param {number} index
   * @param {Record<string, string | undefined>} fields
   * @param {string} [step]
   */
  setFields(index, fields, step = "") {
    if (this.board) this.commit(boards.withShotFields(this.board, index, fields), index, step);
  }

  /** @param {number} index */
  insert(index) {
    if (!this.board) return;
    const near = this.shots[Math.max(0, index - 1)];
    this.commit(boards.withNewShot(this.board, index, boards.secondsOf(near), index > 0 ? "blend" : "continue"), index);
    this.card.editPrompt();
  }

  copy() {
    if (this.board) this.commit(boards.withCopy(this.board, this.chosen), this.chosen + 1);
  }

  remove() {
    if (!this.board || this.shots.length < 2) return;
    const text = boards.withoutShot(this.board, this.chosen);
    this.commit(text, Math.min(this.chosen, this.shots.length - 2));
  }

  /**
   * @param {number} from
   * @param {number} to
   */
  move(from, to) {
    if (!this.board || to < 0 || to >= this.shots.length) return;
    this.commit(boards.withShotMoved(this.board, from, to), to);
  }

  /** @param {number} index */
  cycleJoint(index) {
    if (index < 1) return;
    const kinds = boards.TRANSITIONS;
    const kind = kinds[(kinds.indexOf(boards.transitionOf(this.shots[index])) + 1) % kinds.length];
    const overlap = kind === "blend" ? {} : { overlap_seconds: undefined };
    this.setFields(index, { ...overlap, transition: kind === "continue" ? undefined : JSON.stringify(kind) });
  }

  toggleLock() {
    if (this.board) this.setFields(this.chosen, boards.lockFields(this.board, this.chosen));
  }

  makeAgain() {
    if (this.board) this.setFields(this.chosen, boards.makeAgainFields(this.board, this.chosen));
  }

  /** @param {number} by */
  lengthen(by) {
    const seconds = Math.max(0.1, Math.round((boards.secondsOf(this.shots[this.chosen]) + by) * 10) / 10);
    this.setFields(this.chosen, { seconds: short(seconds) }, `seconds ${this.chosen}`);
  }

  /**
   * @param {number} index
   * @param {File} file
   */
  async addPicture(index, file) {
    try {
      const image = await this.host.upload(file);
      const anchors = Array.isArray(this.shots[index]?.anchors) ? this.shots[index].anchors : [];
      this.setFields(index, { anchors: JSON.stringify([...anchors, { at: 0, image }]) });
    } catch (error) {
      this.fail(t("The picture could not be uploaded: {why}", { why: error instanceof Error ? error.message : String(error) }));
    }
  }

  undo() {
    this.restore(this.history.undo());
  }

  redo() {
    this.restore(this.history.redo());
  }

  /** @param {import("./history.js").State | null} state */
  restore(state) {
    const start = performance.now();
    if (!state) return;
    this.text = state.text;
    this.chosen = state.chosen;
    this.host.write(state.text);
    this.read();
    this.strip.reveal();
    this.lastEdit = performance.now() - start;
  }

  /** @param {boolean} asText */
  setAsText(asText) {
    this.asText = asText;
    this.show();
  }

  /** @param {import("../after_run.js").Run | null} run */
  setRun(run) {
    this.run = run;
    this.show();
  }

  // --- keys ---

  /** @param {KeyboardEvent} event */
  key(event) {
    event.stopPropagation(); // ComfyUI has its own meaning for these keys
    const inStrip = event.target === this.strip.list;
    const command = inStrip ? commandOf(event) : historyCommandOf(event);
    if (event.key === "Escape" && !inStrip) this.strip.list.focus();
    else if (command) this.obey(command);
    else return;
    event.preventDefault();
  }

  /** @param {import("./keyboard.js").Command} command */
  obey(command) {
    const last = this.shots.length - 1;
    const actions = {
      left: () => this.choose(Math.max(0, this.chosen - 1)),
      right: () => this.choose(Math.min(last, this.chosen + 1)),
      first: () => this.choose(0),
      last: () => this.choose(last),
      moveLeft: () => this.move(this.chosen, this.chosen - 1),
      moveRight: () => this.move(this.chosen, this.chosen + 1),
      insert: () => this.insert(this.chosen + 1),
      copy: () => this.copy(),
      remove: () => this.remove(),
      joint: () => this.cycleJoint(this.chosen),
      lock: () => this.toggleLock(),
      again: () => this.makeAgain(),
      longer: () => this.lengthen(0.1),
      shorter: () => this.lengthen(-0.1),
      prompt: () => this.card.editPrompt(),
      undo: () => this.undo(),
      redo: () => this.redo(),
    };
    actions[command]();
  }
}
