/** What the editor says of a shot, for eyes and for screen readers. */
import { short } from "../dom.js";
import { t } from "../translate.js";
import { secondsOf, transitionOf } from "./board.js";

/** @typedef {"made" | "made again" | "reused" | "locked" | "changed"} Made  what the last run did with a shot */

/** What a run did, as people read it: for `t`. */
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
  const parts = [t("shot {n} of {all}", { n: index + 1, all: shots.length }), t("{n} seconds", { n: short(secondsOf(shot)) })];
  if (index > 0) parts.push(jointWords(shot));
  if (Array.isArray(shot.anchors) && shot.anchors.length) parts.push(count(shot.anchors.length, "{n} picture", "{n} pictures"));
  if (shot.locked === true) parts.push(t("locked"));
  if (made) parts.push(t(MADE_WORDS[made]));
  if (mistakes) parts.push(count(mistakes, "{n} mistake", "{n} mistakes"));
  parts.push(typeof shot.prompt === "string" && shot.prompt.trim() ? shot.prompt : t("no prompt yet"));
  return parts.join(", ");
}

/** @param {import("./board.js").Shot} shot */
export function jointWords(shot) {
  const kind = transitionOf(shot);
  if (kind !== "blend" || typeof shot.overlap_seconds !== "number") return t(kind);
  return t("blend over {n} seconds", { n: short(shot.overlap_seconds) });
}

/**
 * Return how many there are: the first sentence is for one.
 * @param {number} number
 * @param {string} one
 * @param {string} several
 */
export const count = (number, one, several) => t(number === 1 ? one : several, { n: number });
