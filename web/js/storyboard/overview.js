/** The bar below a strip that scrolls: all shots at once, which one is chosen, which are wrong, what is seen. */

/**
 * @param {HTMLCanvasElement} canvas
 * @param {import("./scale.js").Scale} scale
 * @param {{left: number, width: number}} seen  pixels of the strip
 * @param {{chosen: number, mistakes: number[]}} state
 */
export function drawOverview(canvas, scale, seen, state) {
  canvas.hidden = scale.width <= seen.width + 1;
  const ink = canvas.getContext("2d");
  if (canvas.hidden || !seen.width || !ink) return;
  canvas.width = seen.width;
  const factor = seen.width / scale.width;
  scale.starts.forEach((at, index) => {
    const start = at * factor;
    const gap = factor > 0.1 ? 1 : 0;
    ink.fillStyle = index % 2 ? "#3f6f8f" : "#558aab";
    if (state.mistakes[index]) ink.fillStyle = "#e5484d";
    if (index === state.chosen) ink.fillStyle = "#ffffff";
    ink.fillRect(start, 0, Math.max(1, scale.ends[index] * factor - start - gap), 8);
  });
  ink.strokeStyle = "#ffffff";
  ink.strokeRect(seen.left * factor + 0.5, 0.5, seen.width * factor - 1, 7);
}
