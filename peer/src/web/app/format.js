/**
 * Sizes, times and names as people read them, in the language of the browser.
 * @module
 */

import { language, t } from "./texts.js";

const NUMBERS = new Intl.NumberFormat(language, { maximumSignificantDigits: 3 });
const CLOCK = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit" });
const WHEN = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "medium" });
const WEEKDAY = new Intl.DateTimeFormat(language, { weekday: "short" });
const DAY = new Intl.DateTimeFormat(language, { weekday: "long", day: "numeric", month: "long" });
const DAY_OF_YEAR = new Intl.DateTimeFormat(language, { day: "numeric", month: "long", year: "numeric" });
const SHORT_DATE = new Intl.DateTimeFormat(language, { day: "2-digit", month: "2-digit", year: "2-digit" });
const UNITS = ["B", "kB", "MB", "GB", "TB"];
const DAY_MS = 86_400_000;
/** The tones of the circles with initials; the style sheet has a colour for each. */
const TONES = 8;

/** Returns a number of bytes with its unit. */
export function sizeText(bytes) {
  let [value, unit] = [bytes, 0];
  while (value >= 999.5 && unit < UNITS.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${NUMBERS.format(value)} ${UNITS[unit]}`;
}

/** The last moment that JavaScript can name. Clocks of others may say anything. */
const LAST_TIME = 8.64e15;
const dateOf = (time) => new Date(Math.abs(time) <= LAST_TIME ? time : 0);

export const clockText = (time) => CLOCK.format(dateOf(time));
/** Returns a time without the half of the day, for a narrow column beside messages whose first one has it. */
export const bareClockText = (time) => CLOCK.formatToParts(dateOf(time)).filter(({ type }) => type !== "dayPeriod").map(({ value }) => value).join("").trim();
export const whenText = (time) => WHEN.format(dateOf(time));
export const isoText = (time) => dateOf(time).toISOString();

/** Returns the key of the day of a time by the local clock. */
export function dayOf(time) {
  const date = dateOf(time);
  return `${date.getFullYear()}-${date.getMonth() + 1}-${date.getDate()}`;
}

/** Returns the name of a day, for the line above its messages. */
export function dayText(time, now = Date.now()) {
  if (dayOf(time) === dayOf(now)) return t("today");
  if (dayOf(time) === dayOf(now - DAY_MS)) return t("yesterday");
  const date = dateOf(time);
  return date.getFullYear() === new Date(now).getFullYear() ? DAY.format(date) : DAY_OF_YEAR.format(date);
}

/** Returns a time in few characters, for lists: today's as a clock shows it. */
export function shortTimeText(time, now = Date.now()) {
  const date = dateOf(time);
  if (dayOf(time) === dayOf(now)) return CLOCK.format(date);
  return Math.abs(now - time) < 6 * DAY_MS ? WEEKDAY.format(date) : SHORT_DATE.format(date);
}

/** Returns how long something takes on, roughly. */
export function durationText(seconds) {
  if (seconds < 60) return `${Math.max(Math.ceil(seconds), 1)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

/** Returns one or two letters for the circle of a name. */
export function initials(name) {
  const words = name.replace(/^#/, "").split(/[._\-\s]+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[1]].map((word) => [...word][0]) : [...(words[0] ?? "?")].slice(0, 2);
  return letters.join("").toUpperCase();
}

/** Returns the tone of a name, the same in each browser. */
export function toneOf(name) {
  let sum = 7;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) >>> 0;
  return sum % TONES;
}

/**
 * Controls, marks that turn the direction of text, and characters that nobody sees; all but those by which emoji are
 * joined. Two names that look alike are to look different.
 */
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2028\u2029\u2060-\u206f\u3164\ufeff\uffa0]|[\u{e0000}-\u{e0fff}]/gu;

/** Returns a text with a visible stand-in for each hidden character. Lines and tabs stay. */
export function safeText(text) {
  return String(text).replace(HIDDEN, (hidden) => `⟨${hidden.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

/** Returns a name on one line. */
export const safeName = (name) => safeText(name).replace(/[\n\t]+/g, " ");
