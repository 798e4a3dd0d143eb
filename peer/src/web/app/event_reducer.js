/**
 * What the node's events do to the state. They are those of `peer events`. Pure: the time comes with the event.
 * @module
 */

import { shownTime, withChange, withMessage, withoutMessage } from "./message_list.js";
import { WINDOW } from "./state.js";
import { changeConversation, changeMessages, changePartner, changeUser, withEntry } from "./state_changes.js";

/** @typedef {import("./state.js").PageState} PageState */

/** The time for which "is writing" is shown after the last sign of it, in ms. */
export const TYPING_MS = 6000;
/** The files that others fetch from us, of which the page keeps the last ones. */
const MOST_GIVEN = 50;
/** The room news that say nothing which a list of messages should show. */
const SILENT_NEWS = new Set(["delivered", "void"]);

/** @type {Record<string, (state: PageState, event: any, action: {now: number, attended: string|null}) => PageState>} */
const EVENTS = {
  message: reduceMessage,
  offer: reduceMessage,
  request: (state, { from }) => changeUser(state, from, { request: true }),
  ack: (state, { peer, id, state: outcome, why }) =>
    changeMessages(state, peer, (list) => withChange(list, id, { state: outcome, why })),
  presence: (state, { user, online }) => changePresence(state, user, online),
  tracker: (state, { reachable, why, elsewhere }) => ({ ...state, tracker: { reachable, why, elsewhere } }),
  node: (state, { connected }) => ({ ...state, isNodeThere: connected }),
  room: reduceRoomNews,
  request_accepted: (state, { user }) => changeUser(state, user, { request: false }),
  held: (state, { user, frozen }) => changeUser(state, user, { frozen }),
  typing: (state, { from, peer = from }, { now }) => {
    const writers = withEntry(state.typing.get(peer) ?? new Map(), from, now + TYPING_MS);
    return { ...state, typing: withEntry(state.typing, peer, writers) };
  },
  read: (state, { with: name }) => changePartner(state, name, { unread: 0 }),
  fetch: (state, fetch) => ({ ...state, fetches: withEntry(state.fetches, fetch.number, fetch) }),
  transfer: reduceTransfer,
};

/** Returns the state after an event of the node; one that this page doesn't know changes nothing. */
export function reduceEvent(state, action) {
  return EVENTS[action.event.type]?.(state, action.event, action) ?? state;
}

function reduceMessage(state, message, { now, attended }) {
  const { peer: name, from } = message;
  const isMine = from === state.session?.user;
  const stored = { at: isMine ? message.ts : now, ...message };
  let next = state;
  const shown = state.conversations.get(name);
  if (shown) next = changeConversation(next, name, placeMessage(shown, stored, { isMine, isAttended: attended === name }));
  if (isMine) return touch(next, name, stored);
  const writers = next.typing.get(name);
  if (writers?.has(from)) next = { ...next, typing: withEntry(next.typing, name, withEntry(writers, from, undefined)) };
  // Also in the open conversation: its view marks it as read, for the account's other views as well.
  return touch(next, name, stored, 1);
}

/** Returns what a new message changes in a conversation. */
function placeMessage(shown, message, { isMine, isAttended }) {
  // Its place is among others that the page may not have: the list is read again.
  if (message.late) return { isStale: true, error: null };
  const unseen = isMine || isAttended ? shown.unseen : shown.unseen + 1;
  // What couldn't be read is read now.
  if (shown.isStale && shown.error) return { unseen, error: null };
  // The end of the conversation isn't among the messages that are kept.
  if (shown.hasNewer && !shown.messages.some(({ id }) => id === message.id)) return { unseen };
  const messages = withMessage(isMine ? withoutSending(shown.messages, message) : shown.messages, message);
  const isCut = messages.length > WINDOW;
  const unreadAfter = shown.unreadAfter ?? (isMine || isAttended ? null : (message.seq ?? 0) - 1);
  return {
    unseen, unreadAfter, messages: isCut ? messages.slice(-WINDOW) : messages, hasOlder: shown.hasOlder || isCut,
  };
}

/** The event of a room's message can come before the answer that gives the message its id. */
function withoutSending(list, { text }) {
  const sending = list.find((message) => message.state === "sending" && message.text === text);
  return sending ? withoutMessage(list, sending.id) : list;
}

/** Moves a conversation up in the list, and counts what is unread in it. */
function touch(state, name, message, unread = 0) {
  const last = shownTime(message);
  if (name.startsWith("#")) {
    const room = state.rooms.get(name.slice(1));
    return room ? changePartner(state, name, { last, unread: room.unread + unread }) : state;
  }
  return changeUser(state, name, { last, unread: (state.users.get(name)?.unread ?? 0) + unread });
}

function changePresence(state, user, online) {
  const next = changeUser(state, user, { online });
  let rooms = next.rooms;
  for (const room of next.rooms.values()) {
    const place = room.members.findIndex((member) => member.user === user);
    if (place < 0 || room.members[place].online === online) continue;
    const members = room.members.with(place, { ...room.members[place], online });
    rooms = withEntry(rooms, room.room, { ...room, members });
  }
  return { ...next, rooms };
}

function reduceRoomNews(state, news, { now }) {
  const name = `#${news.room}`;
  if (news.kind === "delivered") {
    const { count, of } = news;
    return changeMessages(state, name, (list) => markDelivered(list, news.id, state.session?.user, { count, of }));
  }
  if (news.kind === "void") return changeMessages(state, name, (list) => withoutMessage(list, news.id));
  let next = news.kind === "topic" ? changePartner(state, name, { topic: news.topic }) : state;
  if (SILENT_NEWS.has(news.kind)) return next;
  const note = { kind: "note", id: `note ${now} ${news.kind} ${news.user ?? ""}`, ts: now, from: "", state: "note", note: news };
  return changeMessages(next, name, (list) => withMessage(list, note));
}

/** Those who have a message have all earlier ones of ours, too. */
function markDelivered(list, id, me, { count, of }) {
  const place = list.findIndex((message) => message.id === id);
  if (place < 0) return list;
  return list.map((message, at) => {
    const isEarlier = at < place && message.from === me && (message.count ?? 0) < count;
    return at === place || isEarlier ? { ...message, count, of } : message;
  });
}

function reduceTransfer(state, transfer) {
  if (transfer.direction !== "up") return state;
  const key = `${transfer.peer}/${transfer.name}`;
  const given = withEntry(withEntry(state.given, key, undefined), key, transfer);
  for (const oldest of given.keys()) {
    if (given.size <= MOST_GIVEN) break;
    given.delete(oldest);
  }
  return { ...state, given };
}
