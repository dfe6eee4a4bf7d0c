/** What the editor says of a shot, for eyes and for screen readers. */
import { short } from "../dom.js";
import { secondsOf, transitionOf } from "./board.js";

/** @typedef {"made" | "made again" | "reused" | "locked" | "changed"} Made  what the last run did with a shot */

/** What a run did, as people read it. */
export const MADE_WORDS = {
  made: "made in the last run",
  "made again": "made again in the last run",
  reused: "reused from disk",
  locked: "kept by its lock",
  changed: "changed since the last run",
};

/**
 * @param {import("./board.js").Shot[]} shots
 * @param {number} index
 * @param {number} mistakes
 * @param {Made | undefined} made
 */
export function shotWords(shots, index, mistakes, made) {
  const shot = shots[index];
  const parts = [`shot ${index + 1} of ${shots.length}`, `${short(secondsOf(shot))} seconds`];
  if (index > 0) parts.push(jointWords(shot));
  if (Array.isArray(shot.anchors) && shot.anchors.length) parts.push(count(shot.anchors.length, "picture"));
  if (shot.locked === true) parts.push("locked");
  if (made) parts.push(MADE_WORDS[made]);
  if (mistakes) parts.push(count(mistakes, "mistake"));
  parts.push(typeof shot.prompt === "string" && shot.prompt.trim() ? shot.prompt : "no prompt yet");
  return parts.join(", ");
}

/** @param {import("./board.js").Shot} shot */
export function jointWords(shot) {
  const kind = transitionOf(shot);
  const overlap = typeof shot.overlap_seconds === "number" ? ` over ${short(shot.overlap_seconds)} seconds` : "";
  return kind + (kind === "blend" ? overlap : "");
}

/**
 * @param {number} number
 * @param {string} what
 */
export const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
