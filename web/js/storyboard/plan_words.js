/** A plan (engine/plan/rows.py) in words: what the chosen shot asks for and gets, and what the whole video is. */
import { short } from "../dom.js";
import { t } from "../translate.js";

/**
 * @param {any} plan
 * @param {number} chosen  from 0
 */
export function planWords(plan, chosen) {
  const row = plan.shots[chosen];
  const [first, last] = row.segments;
  const parts = [
    rowWords(row, chosen),
    first === last ? t("segment {n}", { n: first }) : t("segments {first}–{last}", { first, last }),
    t("{family}: {seconds} s = {frames} frames, {size}, {segments} segments (rollout {chunks} chunks), latent {bytes}", {
      family: plan.family,
      seconds: short(plan.seconds),
      frames: plan.pixel_frames,
      size: `${plan.width} × ${plan.height}`,
      segments: plan.segment_count,
      chunks: plan.chunk_count,
      bytes: amount(plan.latent_bytes),
    }),
  ];
  return [...parts, ...plan.notes].join(" · ");
}

/**
 * Say what a shot asks for and gets.
 * @param {any} row
 * @param {number} index  from 0
 */
export const rowWords = (row, index) =>
  t("shot {n}: asked {asked} s, gets {got} s = frames {first}–{last}", {
    n: index + 1,
    asked: short(row.asked_seconds),
    got: short(row.seconds),
    first: row.pixel_frames[0],
    last: row.pixel_frames[1] - 1,
  });

/** @param {number} bytes */
const amount = (bytes) =>
  bytes >= 0.05 * 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
