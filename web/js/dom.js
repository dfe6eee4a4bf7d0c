/** Make elements: `el("button", {class: "x", onclick: f}, "text", child)`. */

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} [attributes]  functions under "on..." are listeners; true is an empty attribute; false,
 *   null and undefined are none
 * @param {...(Node | string | null)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else setAttribute(made, name, value);
  }
  made.append(...children.filter((one) => one !== null));
  return made;
}

/**
 * @param {Element} element
 * @param {string} name
 * @param {any} value
 */
export function setAttribute(element, name, value) {
  if (value === false || value == null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value === true ? "" : value))
    element.setAttribute(name, value === true ? "" : String(value));
}

let linked = false;

/** Add the pack's style sheet to the page, once. */
export function addStyle() {
  if (linked) return;
  linked = true;
  document.head.append(el("link", { rel: "stylesheet", href: new URL("./longreel.css", import.meta.url).href }));
}

/**
 * Write a number the way people do: at most so many decimals, none that are zero.
 * @param {number} value
 * @param {number} [decimals]
 */
export const short = (value, decimals = 3) => String(Number(value.toFixed(decimals)));
