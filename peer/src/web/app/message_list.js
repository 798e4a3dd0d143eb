/**
 * The messages of one conversation as a list: pure functions that return a new one.
 * @module
 */

/** @typedef {import("./state.js").Message} Message */

/** The time in ms within which messages of one author stand under one name. */
const GROUP_MS = 5 * 60 * 1000;

/** True for what this page shows before the node has stored it. */
export const isLocal = (message) => message.state === "sending" || message.state === "unsent";

/** How far a message of ours has come; all other states are final. */
const PROGRESS = { sending: 0, unsent: 0, waiting: 1, sent: 2 };
const progressOf = ({ state }) => PROGRESS[state] ?? 3;

/**
 * Returns a message with what an answer of the API tells of it. Events overtake answers: a delivery that is known already
 * isn't taken back.
 */
export function mergeMessage(known, answered) {
  const merged = { ...known, why: undefined, ...answered };
  if (progressOf(known) > progressOf(merged)) Object.assign(merged, { state: known.state, why: known.why });
  if ((known.count ?? 0) > (merged.count ?? 0)) Object.assign(merged, { count: known.count, of: known.of });
  return merged;
}

/** Returns the list with a message added at its place, or updated where it stands. Local ones stay below. */
export function withMessage(list, message) {
  const at = list.findIndex(({ id }) => id === message.id);
  const merged = at < 0 ? message : mergeMessage(list[at], message);
  if (at >= 0 && isLocal(list[at]) === isLocal(merged)) return list.with(at, merged);
  const others = at < 0 ? list : list.toSpliced(at, 1);
  let place = others.length;
  while (place > 0 && isBelow(others[place - 1], merged)) place -= 1;
  return others.toSpliced(place, 0, merged);
}

const isBelow = (other, message) => (isLocal(other) ? !isLocal(message) : other.seq > message.seq);

/** Returns the list with further fields of one message, or the same list if it doesn't hold it. */
export function withChange(list, id, change) {
  const known = list.findIndex((message) => message.id === id);
  return known < 0 ? list : list.with(known, { ...list[known], ...change });
}

/** Returns the list without a message. */
export const withoutMessage = (list, id) => list.filter((message) => message.id !== id);

/** Returns the newest messages as they were read, and below them what came while they were. */
export function withNewest(list, newest) {
  const end = edgeSeq(newest, "newer") ?? -1;
  const read = withKnown(list, newest);
  const ids = new Set(read.map(({ id }) => id));
  return [...read, ...list.filter((message) => !ids.has(message.id) && (isLocal(message) || message.seq > end))];
}

/** Returns messages that were read, each with what the list knows of it by events. */
export function withKnown(list, read) {
  const known = new Map(list.map((message) => [message.id, message]));
  return read.map((message) => (known.has(message.id) ? mergeMessage(known.get(message.id), message) : message));
}

/** Returns older messages before the list, each once, at most `limit`: what is too much goes at the end. */
export function withOlder(list, older, limit) {
  const known = new Set(list.map(({ id }) => id));
  const all = [...older.filter(({ id }) => !known.has(id)), ...list];
  return { messages: all.slice(0, limit), isCut: all.length > limit };
}

/** Returns newer messages after the list, each once, at most `limit`: what is too much goes at the beginning. */
export function withNewer(list, newer, limit) {
  const fresh = new Set(newer.map(({ id }) => id));
  const kept = list.filter(({ id }) => !fresh.has(id));
  const local = kept.filter(isLocal);
  const all = [...kept.filter((message) => !isLocal(message)), ...withKnown(list, newer), ...local];
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
