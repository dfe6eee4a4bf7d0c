/** The list of what is wrong: one button for each mistake, which leads to its shot, or to its line of the text. */
import { el } from "../dom.js";
import { t } from "../translate.js";

const SHOWN = 50;

/**
 * @param {HTMLElement} list
 * @param {import("./check.js").Mistake[]} mistakes
 * @param {number} more
 * @param {(mistake: import("./check.js").Mistake) => void} go
 */
export function showMistakes(list, mistakes, more, go) {
  const rest = Math.max(0, mistakes.length - SHOWN) + more;
  list.replaceChildren(
    ...mistakes
      .slice(0, SHOWN)
      .map((one) =>
        el("li", {}, el("button", { type: "button", class: "lr-mistake", onclick: () => go(one) }, one.message)),
      ),
    ...(rest ? [el("li", {}, t("and {n} more", { n: rest }))] : []),
  );
  list.hidden = !mistakes.length;
}

/**
 * Select a line of a text box, and scroll to it.
 * @param {HTMLTextAreaElement | null | undefined} box
 * @param {number} line  from 1
 */
export function selectLine(box, line) {
  if (!box) return;
  const lines = box.value.split("\n");
  const start = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
  box.focus({ preventScroll: true });
  box.setSelectionRange(start, start + (lines[line - 1]?.length ?? 0));
  box.scrollTop = (box.scrollHeight / lines.length) * Math.max(0, line - 3);
}
