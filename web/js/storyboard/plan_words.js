/** A plan (engine/plan/rows.py) in words: what the chosen shot asks for and gets, and what the whole video is. */
import { short } from "../dom.js";

/**
 * @param {any} plan
 * @param {number} chosen  from 0
 */
export function planWords(plan, chosen) {
  const row = plan.shots[chosen];
  const [first, last] = row.segments;
  const parts = [
    `shot ${chosen + 1}: asked ${short(row.asked_seconds)} s, gets ${short(row.seconds)} s = frames ${row.pixel_frames[0]}–${row.pixel_frames[1] - 1}`,
    first === last ? `segment ${first}` : `segments ${first}–${last}`,
    `${plan.family}: ${short(plan.seconds)} s = ${plan.pixel_frames} frames, ${plan.width} × ${plan.height}, ${plan.segment_count} segments (rollout ${plan.chunk_count} chunks), latent ${amount(plan.latent_bytes)}`,
  ];
  return [...parts, ...plan.notes].join(" · ");
}

/** @param {number} bytes */
const amount = (bytes) =>
  bytes >= 0.05 * 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
