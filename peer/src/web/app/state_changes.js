/**
 * Changes of parts of the state, of which the reducers are made. Pure.
 * @module
 */

import { EMPTY_CONVERSATION } from "./state.js";

/** Returns a copy of a map with one entry changed. */
export function withEntry(map, key, value) {
  const copy = new Map(map);
  if (value === undefined) copy.delete(key);
  else copy.set(key, value);
  return copy;
}

/** Changes fields of a conversation. */
export function changeConversation(state, name, change) {
  const shown = state.conversations.get(name) ?? EMPTY_CONVERSATION;
  return { ...state, conversations: withEntry(state.conversations, name, { ...shown, ...change }) };
}

/** Changes the messages of a conversation, if it is shown or was: others are read when they are opened. */
export function changeMessages(state, name, change) {
  const shown = state.conversations.get(name);
  if (!shown) return state;
  const messages = change(shown.messages);
  return messages === shown.messages ? state : changeConversation(state, name, { messages });
}

/** Changes fields of a user; one who is new to the page begins without any. */
export function changeUser(state, name, change) {
  const known = state.users.get(name) ?? {
    user: name, online: null, unread: 0, waiting: 0, frozen: false, blocked: false, request: false, muted: false, last: null,
  };
  return { ...state, users: withEntry(state.users, name, { ...known, ...change }) };
}

/** Changes fields of the user or room of a conversation. */
export function changePartner(state, name, change) {
  if (!name.startsWith("#")) return changeUser(state, name, change);
  const room = state.rooms.get(name.slice(1));
  return room ? { ...state, rooms: withEntry(state.rooms, room.room, { ...room, ...change }) } : state;
}
