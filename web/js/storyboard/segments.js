/** The plan's segments below the strip, each as wide as the frames that one evaluation of the network sees. */
import { el } from "../dom.js";

const MOST = 400;
const LANES = 3;

/**
 * @param {any} plan  engine/plan/rows.py
 * @param {import("./scale.js").Scale} scale
 * @param {number} first  shot that is seen, and the last one
 * @param {number} last
 * @returns {HTMLElement[]}
 */
export function segmentBars(plan, scale, first, last) {
  if (plan.shots.length !== scale.starts.length) return [];
  const at = (/** @type {number} */ frame) => frameAt(plan, scale, frame);
  const from = plan.shots[first].latent_frames[0];
  const to = plan.shots[last].latent_frames[1];
  const bars = [];
  for (let number = 0; number < plan.segments.length && bars.length < MOST; number += 1) {
    const [start, end, shot] = plan.segments[number];
    if (end <= from || start >= to) continue;
    const bar = el("span", { class: "lr-bar", "data-odd": shot % 2 === 1 });
    bar.style.left = `${at(start)}px`;
    bar.style.width = `${Math.max(2, at(end) - at(start) - 1)}px`;
    bar.style.top = `${(number % LANES) * 5}px`;
    bars.push(bar);
  }
  return bars;
}

/**
 * Return where a latent frame lies on the strip, whose shots have the lengths that were asked for and not those they get.
 * @param {any} plan
 * @param {import("./scale.js").Scale} scale
 * @param {number} frame
 */
function frameAt(plan, scale, frame) {
  let low = 0;
  let high = plan.shots.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (plan.shots[middle].latent_frames[1] > frame) high = middle;
    else low = middle + 1;
  }
  const [start, end] = plan.shots[low].latent_frames;
  const share = Math.min(1, (frame - start) / Math.max(1, end - start));
  return scale.starts[low] + share * (scale.ends[low] - scale.starts[low]);
}
