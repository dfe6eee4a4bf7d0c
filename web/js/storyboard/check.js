/**
 * Ask the server what is wrong with a text, and for the plan: its own parser and planner, one set of rules.
 *
 * Asked a moment after the last change; an answer to a text that has changed since is dropped.
 */
import { t } from "../translate.js";

/**
 * @typedef {object} Mistake  hosts/web/storyboard_check.py
 * @property {number | null} shot  from 1
 * @property {(string | number)[]} path  in a storyboard of version 1
 * @property {number | null} line  from 1
 * @property {string} place
 * @property {string} text
 * @property {string} message
 */
/** @typedef {{mistakes: Mistake[], more: number, plan: any, refused: string, families: string[]}} Answer */
/** @typedef {{text: string, plan: Record<string, any> | null}} Question */

const PAUSE = 300; // milliseconds after the last change

export class Check {
  /**
   * @param {(path: string, options: any) => Promise<Response>} fetchApi  ComfyUI's own
   * @param {(answer: Answer, question: Question) => boolean} hear  whether it was the answer to what is there now
   * @param {(why: string) => void} fail
   */
  constructor(fetchApi, hear, fail) {
    this.fetchApi = fetchApi;
    this.hear = hear;
    this.fail = fail;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    /** @type {AbortController | null} */
    this.running = null;
    this.asked = ""; // what is on its way
    this.answered = ""; // what was heard last
  }

  /**
   * @param {() => Question} question  asked for when it is time
   * @param {number} [pause]
   */
  ask(question, pause = PAUSE) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(question()), pause);
  }

  /** @param {Question} question */
  async send(question) {
    const body = JSON.stringify(question);
    if (body === this.asked || (!this.asked && body === this.answered)) return;
    this.asked = body;
    this.running?.abort();
    const running = (this.running = new AbortController());
    try {
      const options = { method: "POST", headers: { "Content-Type": "application/json" }, body, signal: running.signal };
      const response = await this.fetchApi("/longreel/storyboard/check", options);
      const answer = await response.json();
      if (!response.ok) throw new Error(answer.error ?? `status ${response.status}`);
      if (running === this.running) this.answered = this.hear(answer, question) ? body : "";
    } catch (error) {
      if (running.signal.aborted) return;
      this.answered = "";
      this.fail(t("The storyboard could not be checked: {why}", { why: error instanceof Error ? error.message : String(error) }));
    } finally {
      if (running === this.running) this.asked = "";
    }
  }

  /** Ask no more. */
  stop() {
    clearTimeout(this.timer);
    this.running?.abort();
  }
}
