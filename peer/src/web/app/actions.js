/**
 * What a person or an event sets going: calls of the API whose answers go into the store. Errors that a person has to
 * know are told by `app.tell`.
 * @module
 */

import { pathOf, queryOf } from "./api_client.js";
import { safeName } from "./format.js";
import { edgeSeq } from "./message_list.js";
import { isRoom } from "./state.js";
import { t } from "./texts.js";

/** @typedef {import("./main.js").App} App */

const PAGE = 80;

/** Returns 32 random hex digits. `randomUUID` isn't there on a page without TLS. */
export function randomId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The pause in ms before a list is read once more: events come in flocks. */
const REREAD_PAUSE_MS = 150;

/** Reads all lists again: at the beginning, and after events were missed. */
export async function loadLists({ api, store }) {
  store.dispatch({ type: "stale" });
  await Promise.all(["users", "rooms"].map((list) => loadList({ api, store }, list)));
  store.dispatch({ type: "loaded" });
  await Promise.allSettled(["fetches", "sends"].map((list) => loadList({ api, store }, list)));
}

/** The lists that are being read, each with whether it is out of date before it is here. */
const listReadings = new Map();

/** Reads one list again, once more if an event changes one of its entries meanwhile. */
export async function loadList({ api, store }, list) {
  const reading = { isOutdated: false };
  listReadings.set(list, reading);
  try {
    const answer = await api.get(`/${list}`);
    // A later reading has the last word.
    if (listReadings.get(list) === reading) store.dispatch({ type: list, [list]: answer[list] });
  } finally {
    if (listReadings.get(list) === reading) listReadings.delete(list);
  }
  if (reading.isOutdated) setTimeout(() => loadList({ api, store }, list).catch(() => {}), REREAD_PAUSE_MS);
}

/** Marks the reading of a list as out of date, if there is one: the answer may be older than an event. */
export function markOutdated(list) {
  const reading = listReadings.get(list);
  if (reading) reading.isOutdated = true;
}

/** The last reading of each conversation: what an earlier one brings is out of date. */
const readings = new Map();

function beginReading(store, name) {
  const reading = (readings.get(name) ?? 0) + 1;
  readings.set(name, reading);
  store.dispatch({ type: "loading", name, isLoading: true });
  return () => readings.get(name) === reading;
}

/** Reads the newest messages of a conversation, or further ones at one of its edges. */
export async function loadMessages({ api, store }, name, side = "newest") {
  const shown = store.state.conversations.get(name);
  if (side !== "newest" && shown?.isLoading) return;
  const edge = side === "newest" ? null : edgeSeq(shown.messages, side);
  if (side !== "newest" && edge === null) return;
  const isLast = beginReading(store, name);
  const query = queryOf({ limit: PAGE, before: side === "older" ? edge : null, after: side === "newer" ? edge : null });
  try {
    const { messages, more = messages.length >= PAGE } = await api.get(`${pathOf("conversations", name)}/messages${query}`);
    if (isLast()) store.dispatch({ type: "history", name, side, messages, more });
  } catch (why) {
    if (isLast()) store.dispatch({ type: "history_failed", name, error: why.message });
  }
}

/** Reads the messages around one, in place of those that are shown. */
export async function loadAround({ api, store }, name, seq) {
  const isLast = beginReading(store, name);
  const path = `${pathOf("conversations", name)}/messages`;
  const half = PAGE / 2;
  try {
    const [older, newer] = await Promise.all([api.get(path + queryOf({ limit: half, before: seq })),
      api.get(path + queryOf({ limit: half, after: seq - 1 }))]);
    if (isLast()) store.dispatch({ type: "history", name, side: "around", messages: [...older.messages, ...newer.messages],
      more: older.more ?? older.messages.length >= half, moreNewer: newer.more ?? newer.messages.length >= half });
  } catch (why) {
    if (isLast()) store.dispatch({ type: "history_failed", name, error: why.message });
  }
}

/** Finds messages of a conversation by their words. */
export async function searchMessages({ api }, name, words) {
  const { messages } = await api.get(`${pathOf("conversations", name)}/messages${queryOf({ search: words, limit: 100 })}`);
  return messages;
}

/** Shows a message at once and sends it; what isn't taken stays below the conversation, to be sent again. */
export async function sendText(app, name, text) {
  const { store } = app;
  const me = store.state.session.user;
  const message = { id: randomId(), peer: name, from: me, ts: Date.now(), text, state: "sending" };
  if (store.state.conversations.get(name)?.hasNewer) await loadMessages(app, name);
  store.dispatch({ type: "message", name, message });
  await sendLocal(app, name, message);
}

/** Sends what was shown already. A person's message has an id from here, so that it is stored once however often sent. */
export async function sendLocal({ api, store }, name, message) {
  const id = isRoom(name) ? undefined : message.id;
  store.dispatch({ type: "message_change", name, id: message.id, change: { state: "sending", why: undefined } });
  try {
    const answer = await api.post(`${pathOf("conversations", name)}/messages`, { text: message.text, id });
    store.dispatch({ type: "message_stored", name, local: message.id, message: answer.message });
  } catch (why) {
    store.dispatch({ type: "message_unsent", name, id: message.id, why: why.message });
  }
}

/** Takes a message back that nobody has yet; returns whether it is. */
export async function cancelMessage(app, name, message) {
  const { api, store } = app;
  if (message.state === "unsent") {
    store.dispatch({ type: "message_gone", name, id: message.id });
    return true;
  }
  return app.attempt(async () => {
    const { cancelled } = await api.delete(`${pathOf("conversations", name)}/messages${pathOf(message.id)}`);
    if (cancelled) store.dispatch({ type: "message_change", name, id: message.id, change: { state: "dropped" } });
    else app.tell(t("too_late_to_cancel"));
    return cancelled;
  });
}

/** Conversations of which the node is being told that they were read; true if that is to be told once more. */
const readMarks = new Map();

/** Tells the node that a conversation was read, once for many messages. */
export async function markRead({ api, store }, name) {
  store.dispatch({ type: "read", name });
  if (readMarks.has(name)) {
    readMarks.set(name, true);
    return;
  }
  do {
    readMarks.set(name, false);
    await api.post(`${pathOf("conversations", name)}/read`).catch(() => {});
  } while (readMarks.get(name));
  readMarks.delete(name);
}

/** Tells the other user that something is being written. */
export const tellTyping = ({ api }, name) => api.post(`${pathOf("conversations", name)}/typing`).catch(() => {});

/** Lets a conversation ring or not. */
export const setMuted = (app, name, muted) => app.attempt(async () => {
  await app.api.post(`${pathOf("conversations", name)}/mute`, { muted });
  app.store.dispatch({ type: "muted", name, muted });
});

/** Accepts, blocks or unblocks a user. */
export const setContact = (app, user, verb) => app.attempt(async () => {
  await app.api.post(`${pathOf("users", user)}/${verb}`);
  const change = { accept: { request: false }, block: { blocked: true, request: false }, unblock: { blocked: false } }[verb];
  app.store.dispatch({ type: "user", name: user, change });
});

/** Changes a room or one's membership, reads the rooms again, and tells what the node has to say about it. */
export const changeRoom = (app, room, verb, body = {}) => app.attempt(async () => {
  const answer = await app.api.post(`${pathOf("rooms", room)}/${verb}`, body);
  if (answer?.note) app.tell(answer.note);
  await loadList(app, "rooms");
  return true;
});

/** Begins to fetch a file or a folder. */
export const startFetch = (app, from, name) => app.attempt(async () => {
  const { number } = await app.api.post("/fetches", { from, name });
  app.startedFetches.add(number);
  await loadList(app, "fetches");
  app.tell(t("fetch_started", { name: safeName(name.split("/").findLast(Boolean)) }), { action: t("show"), place: "transfers" });
  // A small one may be over before its number was known here.
  const fetch = app.store.state.fetches.get(number);
  if (fetch) app.followFetch(fetch);
});

export const stopFetch = (app, number) => app.attempt(async () => {
  await app.api.delete(`/fetches/${number}`);
  await loadList(app, "fetches");
});

/** Pauses, resumes or ends a send. */
export const changeSend = (app, number, verb) => app.attempt(async () => {
  await app.api.post(`/sends/${number}/${verb}`);
  await loadList(app, "sends");
});

/** Stops sharing a file with everybody, or with the room or user that it is shared with. */
export const removeShare = (app, { name, audience }) => app.attempt(async () => {
  await app.api.delete(`/shares${pathOf(name)}${queryOf({ audience })}`);
  await loadList(app, "shares");
});

/** Lets the browser save a fetched file: a ticket is good for one download. */
export const saveFile = (app, fetch, file) => app.attempt(async () => {
  const { path } = await app.api.post("/tickets", { fetch, file });
  const link = document.createElement("a");
  link.href = path;
  link.download = file.split("/").at(-1);
  document.body.append(link);
  link.click();
  link.remove();
});
