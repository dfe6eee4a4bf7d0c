/**
 * Draw a plan (engine/plan/rows.py) as a picture: the shots on the seconds, how they meet, and the segments over them.
 * It is one SVG, so it can be read at any zoom and has words for screen readers.
 */
import { short } from "./dom.js";
import { rowWords } from "./storyboard/plan_words.js";
import { t } from "./translate.js";

const NAMESPACE = "http://www.w3.org/2000/svg";
const SHOT = { top: 8, height: 44 };
const LANES = { top: 58, height: 7, count: 3 };
const AXIS = 84;
const HEIGHT = 100;
const MOST_SEGMENTS = 600;

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {...(Node | string)} children
 */
function shape(tag, attributes, ...children) {
  const made = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/**
 * @param {any} plan
 * @param {number} width  pixels
 * @returns {SVGSVGElement}
 */
export function timelinePicture(plan, width) {
  const words = t("{shots} shots in {seconds} seconds, {segments} segments", { shots: plan.shots.length, seconds: short(plan.seconds), segments: plan.segment_count });
  const picture = shape("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, class: "lr-timeline", role: "img", "aria-label": words });
  const pixels = width / Math.max(1, plan.pixel_frames);
  const frame = (/** @type {number} */ latent) => (latent === 0 ? 0 : 1 + plan.temporal_stride * (latent - 1)) * pixels;
  plan.shots.forEach((/** @type {any} */ row, /** @type {number} */ index) => picture.append(...shotShapes(plan, row, index, frame, pixels)));
  const segments = plan.segments.slice(0, MOST_SEGMENTS);
  segments.forEach((/** @type {number[]} */ [start, end, shot], /** @type {number} */ number) => {
    const y = LANES.top + (number % LANES.count) * (LANES.height + 1);
    const x = frame(start);
    picture.append(
      shape(
        "rect",
        { x, y, width: Math.max(1, frame(end) - x - 1), height: LANES.height, rx: 2, class: shot % 2 ? "lr-odd" : "lr-even" },
        shape("title", {}, t("segment {n}: latent frames {first}–{last}, shot {shot}", { n: number + 1, first: start, last: end - 1, shot })),
      ),
    );
  });
  picture.append(...ticks(plan, pixels, width));
  return /** @type {SVGSVGElement} */ (picture);
}

/**
 * @param {any} plan
 * @param {any} row
 * @param {number} index
 * @param {(latent: number) => number} frame
 * @param {number} pixels  of a pixel frame
 */
function shotShapes(plan, row, index, frame, pixels) {
  const [start, end] = row.latent_frames.map(frame);
  const words = `${rowWords(row, index)}, ${t(row.meets)}`;
  const shapes = [
    shape(
      "rect",
      { x: start + 1, y: SHOT.top, width: Math.max(1, end - start - 2), height: SHOT.height, rx: 4, class: index % 2 ? "lr-shot-even" : "lr-shot-odd" },
      shape("title", {}, words),
    ),
  ];
  if (row.meets === "blend" && row.overlap_frames) {
    const half = Math.max(3, (row.overlap_frames * plan.temporal_stride * pixels) / 2);
    const foot = SHOT.top + SHOT.height;
    const points = `${start - half},${foot} ${start},${foot - 14} ${start + half},${foot}`;
    shapes.push(shape("polygon", { points, class: "lr-wedge" }, shape("title", {}, t("blend over {n} latent frames", { n: row.overlap_frames }))));
  }
  if (row.meets === "cut") shapes.push(shape("rect", { x: start - 2, y: 2, width: 4, height: SHOT.height + 12, class: "lr-cut" }, shape("title", {}, t("cut"))));
  if (end - start > 22) {
    const left = start + 6 + (row.meets === "cut" ? 3 : 0);
    shapes.push(shape("text", { x: left, y: SHOT.top + 16, class: "lr-name" }, `${index + 1}${row.locked ? " 🔒" : ""}`));
    if (end - start > 54) shapes.push(shape("text", { x: left, y: SHOT.top + 30, class: "lr-small" }, t("{n} s", { n: short(row.seconds, 2) })));
  }
  return shapes;
}

/**
 * @param {any} plan
 * @param {number} pixels  of a pixel frame
 * @param {number} width  of the picture
 */
function ticks(plan, pixels, width) {
  const wanted = (plan.seconds * 50) / width;
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 36000];
  const step = steps.find((one) => one >= wanted) ?? steps[steps.length - 1];
  const shapes = [];
  for (let second = 0; second <= plan.seconds; second += step) {
    const x = Math.min(width - 1, second * plan.fps * pixels);
    shapes.push(shape("line", { x1: x, x2: x, y1: AXIS, y2: AXIS + 4, class: "lr-tick" }));
    if (x < width - 26) shapes.push(shape("text", { x: x + 3, y: AXIS + 11, class: "lr-axis" }, t("{n} s", { n: short(second, 1) })));
  }
  return shapes;
}
