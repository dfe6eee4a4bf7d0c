/**
 * One history of everything that the editor changes: the texts, and the shot that was chosen with each.
 *
 * Changes that follow each other under one name (typing into one field, one drag) are one step.
 */

/** @typedef {{text: string, chosen: number}} State */

const MOST = 200; // steps
const MOST_CHARACTERS = 16_000_000; // of all texts together

export class History {
  /** @param {State} state */
  constructor(state) {
    /** @type {State[]} */
    this.before = [];
    /** @type {State[]} */
    this.after = [];
    this.now = state;
    this.name = "";
  }

  /**
   * Note a change. `name`: of what is changed; the same name once more goes on with the step. "" is a step of its own.
   * @param {State} state
   * @param {string} name
   */
  push(state, name = "") {
    if (state.text === this.now.text) {
      this.now = state;
      return;
    }
    if (!name || name !== this.name || !this.before.length) {
      this.before.push(this.now);
      let characters = this.before.reduce((sum, one) => sum + one.text.length, 0);
      while (this.before.length > MOST || (characters > MOST_CHARACTERS && this.before.length > 1))
        characters -= this.before.shift()?.text.length ?? 0;
    }
    this.name = name;
    this.now = state;
    this.after = [];
  }

  /** End a step: what follows under the same name is another one. */
  pause() {
    this.name = "";
  }

  /** @returns {State | null} the state before, which is the present one from here on */
  undo() {
    const state = this.before.pop();
    if (!state) return null;
    this.after.push(this.now);
    this.pause();
    return (this.now = state);
  }

  /** @returns {State | null} */
  redo() {
    const state = this.after.pop();
    if (!state) return null;
    this.before.push(this.now);
    this.pause();
    return (this.now = state);
  }
}
