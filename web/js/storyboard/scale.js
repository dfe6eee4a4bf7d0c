/**
 * Where the shots lie on the strip: seconds into pixels, and back.
 *
 * All shots share one scale. The strip is as wide as its window where every shot is then wide enough to be read, else
 * wider, and it scrolls. A shot is never narrower than NARROWEST, so that it can be hit.
 */

/** @typedef {{starts: number[], ends: number[], width: number, pixels: number}} Scale  `pixels` of a second */

const NARROWEST = 14; // pixels of a shot
const READABLE = 46; // pixels that three of four shots have at least, unless zoomed
const WIDEST = 120; // pixels of a shot on average, so that one that lasts for hours does not push the others away

/**
 * @param {number[]} seconds  of each shot
 * @param {number} window  pixels that can be seen at once
 * @param {number} zoom  1 is what fits, or what can be read
 * @returns {Scale}
 */
export function scaleOf(seconds, window, zoom) {
  const total = seconds.reduce((sum, one) => sum + one, 0);
  const quarter = [...seconds].sort((a, b) => a - b)[Math.floor(seconds.length / 4)];
  const readable = Math.min(READABLE / quarter, (seconds.length * WIDEST) / total);
  const pixels = Math.max(window / total, readable) * zoom;
  const starts = [];
  const ends = [];
  let at = 0;
  for (const one of seconds) {
    starts.push(at);
    at += Math.max(NARROWEST, one * pixels);
    ends.push(at);
  }
  return { starts, ends, width: at, pixels };
}

/**
 * Return the index of the shot at so many pixels from the strip's beginning.
 * @param {Scale} scale
 * @param {number} x
 */
export function shotAt(scale, x) {
  let low = 0;
  let high = scale.ends.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (scale.ends[middle] > x) high = middle;
    else low = middle + 1;
  }
  return low;
}
