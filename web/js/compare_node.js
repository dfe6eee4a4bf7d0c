/**
 * Longreel Compare plays two runs side by side in its node and asks which is better on each axis. Where it is blind, the
 * names are shown once a vote is given.
 */
import { api } from "../../../scripts/api.js";
import { el } from "./dom.js";
import { addPlace, onRun, showPlace } from "./node_place.js";
import { t } from "./translate.js";

const LEAST = 420; // pixels, once there is something to show
const WIDE = 420; // pixels that the node becomes wide then, where it is narrower
const APART = 0.08; // seconds that the two may run apart
/** @type {Record<string, string>} */
const QUESTIONS = {
  "text following": "Which shows better what the prompts say?",
  "motion naturalness": "Which moves more naturally?",
  "aesthetics": "Which looks better?",
  "temporal consistency": "In which do things stay the same from shot to shot?",
};
const CHOICES = [
  ["left", "Left"],
  ["tie", "Tie"],
  ["right", "Right"],
];

/**
 * Give a node the place of its page.
 * @param {any} node
 */
export function addComparison(node) {
  if (node.longreelComparison) return;
  const place = { name: "compare_page", type: "longreel_compare", least: LEAST, class: "lr-compare" };
  const element = (node.longreelComparison = addPlace(node, place));
  onRun(node, (output) => {
    const page = output?.longreel_compare?.[0];
    if (page) showPlace(node, element, pageOf(page, output.text?.[0] ?? ""), WIDE);
  });
}

/** @param {number} index */
const sideOf = (index) => (index ? t("Right") : t("Left"));

/** @param {any} side */
const urlOf = (side) => {
  const { filename, subfolder, type } = side;
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
};

/**
 * @param {any} page  as nodes/compare.py has it
 * @param {string} report
 */
function pageOf(page, report) {
  const videos = page.sides.map((/** @type {any} */ side, /** @type {number} */ index) =>
    el("video", { src: urlOf(side), loop: true, playsinline: true, "aria-label": sideOf(index) }),
  );
  for (const video of videos) video.muted = true;
  const names = page.sides.map((/** @type {any} */ side, /** @type {number} */ index) =>
    el("div", { class: "lr-compare-name" }, page.blind ? sideOf(index) : side.name),
  );
  const text = el("pre", { tabindex: 0, role: "region", "aria-label": t("Ratings") }, report);
  /** @type {Record<string, string>} */
  const chosen = {};
  const send = el("button", { disabled: true, onclick: vote }, t("Vote"));
  const axes = page.axes.map((/** @type {string} */ axis) => {
    const buttons = CHOICES.map(([choice, word]) =>
      el("button", { "aria-pressed": "false", "data-choice": choice, onclick: () => choose(axis, choice) }, t(word)),
    );
    const name = el("span", { title: t(QUESTIONS[axis] ?? axis) }, t(axis));
    return el("div", { class: "lr-compare-axis", role: "group", "aria-label": t(axis) }, name, ...buttons);
  });

  /** @param {string} axis @param {string} choice */
  function choose(axis, choice) {
    chosen[axis] = choice;
    const row = axes[page.axes.indexOf(axis)];
    for (const button of row.querySelectorAll("button"))
      button.setAttribute("aria-pressed", String(button.dataset.choice === choice));
    send.disabled = page.axes.some((/** @type {string} */ one) => !chosen[one]);
  }

  async function vote() {
    send.disabled = true;
    const [left, right] = page.sides.map((/** @type {any} */ side) => side.name);
    const votes = page.axes.map((/** @type {string} */ axis) => {
      return { axis, left, right, choice: chosen[axis], watched: page.watched };
    });
    const answer = await api.fetchApi("/longreel/compare/vote", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ comparison: page.comparison, votes }),
    });
    const told = await answer.json();
    text.textContent = told.text ?? told.error;
    if (!answer.ok) send.disabled = false; // nothing was kept
    else for (const [index, name] of names.entries()) name.textContent = page.sides[index].name;
  }

  return [
    el("div", { class: "lr-compare-videos" }, el("div", {}, videos[0], names[0]), el("div", {}, videos[1], names[1])),
    together(videos),
    ...axes,
    send,
    text,
  ];
}

/**
 * Return the controls that play two videos together.
 * @param {HTMLVideoElement[]} videos
 */
function together([first, second]) {
  const range = { type: "range", min: 0, max: 1, step: "any", value: 0 };
  const place = el("input", { ...range, "aria-label": t("Place"), oninput: seek });
  const play = el("button", { onclick: toggle }, t("Play"));
  function seek() {
    for (const video of [first, second]) video.currentTime = Number(place.value) * (first.duration || 0);
  }
  function toggle() {
    const begins = first.paused;
    for (const video of [first, second]) begins ? video.play() : video.pause();
    play.textContent = begins ? t("Pause") : t("Play");
  }
  first.addEventListener("timeupdate", () => {
    if (first.duration) place.value = String(first.currentTime / first.duration);
    if (Math.abs(first.currentTime - second.currentTime) > APART) second.currentTime = first.currentTime;
  });
  return el("div", { class: "lr-compare-play" }, play, place);
}
