/**
 * Say the pack's words on the page in the user's language, where a folder of locales/ has it.
 *
 * A sentence is looked up as it is in English, under `longreel` in locales/<language>/main.json, which ComfyUI serves
 * with the names of nodes and inputs. What the server says (mistakes, notes of a plan) is English in every language.
 */

/** @type {Record<string, string>} */
let words = {};

/**
 * Learn the words of a language, before anything is shown. Where the server does not answer they stay English.
 * @param {{getCustomNodesI18n?: () => Promise<Record<string, any>>}} api  ComfyUI's
 * @param {string} language  as in ComfyUI's settings: "zh"
 */
export async function learn(api, language) {
  if (language === "en" || !api.getCustomNodesI18n) return;
  try {
    words = (await api.getCustomNodesI18n())?.[language]?.longreel ?? {};
  } catch (error) {
    console.warn("Longreel: the words of this language could not be read", error);
  }
}

/**
 * Return a sentence in the user's language, with values in the place of their names: t("shot {n}", {n: 1}).
 * @param {string} english
 * @param {Record<string, string | number>} [values]
 */
export function t(english, values = {}) {
  return (words[english] ?? english).replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}
