/** Which key does what on the strip; the help line of the editor is made of the same table. */

import { t } from "../translate.js";

/** @typedef {"left" | "right" | "first" | "last" | "moveLeft" | "moveRight" | "insert" | "copy" | "remove" | "joint" | "lock" | "again" | "longer" | "shorter" | "prompt" | "undo" | "redo"} Command */

/** @type {[string, Command, string][]}  the key with what is held, the command, what it does in words */
export const KEYS = [
  ["ArrowLeft", "left", ""],
  ["ArrowUp", "left", ""],
  ["ArrowRight", "right", "← → choose a shot"],
  ["ArrowDown", "right", ""],
  ["Home", "first", ""],
  ["End", "last", ""],
  ["Alt+ArrowLeft", "moveLeft", ""],
  ["Alt+ArrowRight", "moveRight", "Alt ← → move it"],
  ["n", "insert", "N new behind it"],
  ["d", "copy", "D double it"],
  ["Delete", "remove", "Del remove it"],
  ["Backspace", "remove", ""],
  ["t", "joint", "T its transition"],
  ["l", "lock", "L lock it"],
  ["m", "again", "M make it again"],
  ["+", "longer", "+ − 0.1 s"],
  ["=", "longer", ""],
  ["-", "shorter", ""],
  ["Enter", "prompt", "Enter its prompt, Esc back"],
  ["F2", "prompt", ""],
  ["Ctrl+z", "undo", "Ctrl Z undo"],
  ["Ctrl+y", "redo", "Ctrl Y redo"],
  ["Ctrl+Shift+z", "redo", ""],
];

/** Return what all keys do, in one line. */
export const keyWords = () =>
  KEYS.map(([, , words]) => words)
    .filter(Boolean)
    .map((words) => t(words))
    .join(" · ");

const COMMANDS = new Map(KEYS.map(([keys, command]) => [keys, command]));

/**
 * Return what a key means on the strip, or null.
 * @param {KeyboardEvent} event
 * @returns {Command | null}
 */
export function commandOf(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const held = [event.ctrlKey || event.metaKey ? "Ctrl" : "", event.altKey ? "Alt" : ""];
  if (event.shiftKey && key !== "+") held.push("Shift");
  return COMMANDS.get([...held.filter(Boolean), key].join("+")) ?? null;
}

/**
 * Return "undo" or "redo" for the keys that mean it anywhere in the editor.
 * @param {KeyboardEvent} event
 */
export function historyCommandOf(event) {
  const command = commandOf(event);
  return command === "undo" || command === "redo" ? command : null;
}
