/**
 * The messages of one conversation as a list: pure functions that return a new one.
 * @module
 */

/** @typedef {import("./state.js").Message} Message */

/** The time in ms within which messages of one author stand under one name. */
const GROUP_MS = 5 * 60 * 1000;

/** True for what this page shows before the node has stored it. */
export const isLocal = (message) => message.state === "sending" || message.state === "unsent";

/** Returns the list with a message added at its end, or updated where it stands. Local ones stay below. */
export function withMessage(list, message) {
  const known = list.findIndex(({ id }) => id === message.id);
  if (known >= 0) return list.with(known, { ...list[known], ...message });
  let place = list.length;
  while (place > 0 && isLocal(list[place - 1])) place -= 1;
  return list.toSpliced(place, 0, message);
}

/** Returns the list with further fields of one message, or the same list if it doesn't hold it. */
export function withChange(list, id, change) {
  const known = list.findIndex((message) => message.id === id);
  return known < 0 ? list : list.with(known, { ...list[known], ...change });
}

/** Returns the list without a message. */
export const withoutMessage = (list, id) => list.filter((message) => message.id !== id);

/** Returns older messages before the list, each once, at most `limit`: what is too much goes at the end. */
export function withOlder(list, older, limit) {
  const known = new Set(list.map(({ id }) => id));
  const all = [...older.filter(({ id }) => !known.has(id)), ...list];
  return { messages: all.slice(0, limit), isCut: all.length > limit };
}

/** Returns newer messages after the list, each once, at most `limit`: what is too much goes at the beginning. */
export function withNewer(list, newer, limit) {
  const fresh = new Map(newer.map((message) => [message.id, message]));
  const kept = list.filter(({ id }) => !fresh.has(id));
  const local = kept.filter(isLocal);
  const all = [...kept.filter((message) => !isLocal(message)), ...newer, ...local];
  return { messages: all.slice(Math.max(all.length - limit, 0)), isCut: all.length > limit };
}

/** Returns the smallest or greatest place in the history of the list's messages. */
export function edgeSeq(list, side) {
  const seqs = list.map(({ seq }) => seq).filter((seq) => typeof seq === "number");
  if (seqs.length === 0) return null;
  return side === "older" ? Math.min(...seqs) : Math.max(...seqs);
}

/** Returns the time at which a message is shown: others' by this machine's clock, as their clocks may be wrong. */
export const shownTime = (message) => message.at || message.ts;

/**
 * Returns the rows that show a list: messages, a line for each day, one above the first unread message, notes.
 * @param {Message[]} list
 * @param {number|null} unreadAfter - The place of the last message that was read.
 * @param {string} me
 */
export function timelineRows(list, unreadAfter, me, dayOf) {
  const rows = [];
  let [day, last, isMarked] = ["", null, unreadAfter === null];
  for (const message of list) {
    const time = shownTime(message);
    const thisDay = dayOf(time);
    if (thisDay !== day) {
      rows.push(dayRow(thisDay, time));
      [day, last] = [thisDay, null];
    }
    if (!isMarked && message.seq > unreadAfter && message.from !== me && !message.note) {
      rows.push(UNREAD_ROW);
      [isMarked, last] = [true, null];
    }
    if (message.note) {
      rows.push(message);
      last = null;
      continue;
    }
    const follows = last !== null && last.from === message.from && time - shownTime(last) < GROUP_MS;
    rows.push(messageRow(message, follows));
    last = message;
  }
  return rows;
}

const UNREAD_ROW = Object.freeze({ kind: "unread", id: "unread" });
/** Rows that were made for a message: an unchanged message keeps its row, and the view needn't look at it. */
const messageRows = new WeakMap();
const dayRows = new Map();

function messageRow(message, follows) {
  let row = messageRows.get(message);
  if (!row || row.follows !== follows) {
    row = { kind: message.send || message.offer ? "file" : "message", id: message.id, message, follows };
    messageRows.set(message, row);
  }
  return row;
}

function dayRow(day, time) {
  if (!dayRows.has(day)) dayRows.set(day, { kind: "day", id: `day ${day}`, time });
  return dayRows.get(day);
}
