/**
 * What the page says, in the language of the browser: Brazilian Portuguese for all of Portuguese, else English.
 * @module
 */

import { ENGLISH } from "./texts_en.js";
import { PORTUGUESE } from "./texts_pt.js";

const isPortuguese = (navigator.languages ?? [navigator.language]).find((tag) => /^(pt|en)\b/i.test(tag))?.toLowerCase().startsWith("pt");

export const language = isPortuguese ? "pt-BR" : "en";
const TEXTS = isPortuguese ? PORTUGUESE : ENGLISH;
const plural = new Intl.PluralRules(language);
const numbers = new Intl.NumberFormat(language);

/**
 * Returns a text, with its `{values}` filled in.
 * @param {string} key
 * @param {Record<string, string|number>} [values]
 */
export function t(key, values = {}) {
  return fill(TEXTS[key] ?? key, values);
}

/** Returns true if there is a text of this key. */
t.has = (key) => Object.hasOwn(TEXTS, key);

/** Returns a text that counts: the form for one, or the form for any other number, with `{n}` filled in. */
export function tn(key, n, values = {}) {
  const [one, other] = TEXTS[key];
  return fill(plural.select(n) === "one" ? one : other, { n: numbers.format(n), ...values });
}

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => (Object.hasOwn(values, name) ? String(values[name]) : whole));
