/**
 * What the page's own actions do to the state: answers of the API, choices of the person. Pure.
 * @module
 */

import { reduceEvent } from "./event_reducer.js";
import { edgeSeq, withChange, withKnown, withMessage, withNewer, withNewest, withOlder, withoutMessage } from "./message_list.js";
import { EMPTY_CONVERSATION, WINDOW, conversationPartner, initialState } from "./state.js";
import { changeConversation, changeMessages, changePartner, changeUser, withEntry } from "./state_changes.js";

/** @typedef {import("./state.js").PageState} PageState */

/** @type {Record<string, (state: PageState, action: any) => PageState>} */
const REDUCERS = {
  phase: (state, { phase, session = null, mode }) =>
    phase === "open" ? { ...state, phase, session } : { ...closed(state), phase, session: mode ? { mode } : state.session },
  stream: (state, { stream }) => ({ ...state, stream }),
  route: (state, { route }) => leaveConversation({ ...state, route }, state.route),
  preferences: (state, { preferences }) => ({ ...state, preferences: { ...state.preferences, ...preferences } }),
  users: (state, { users }) => ({ ...state, users: new Map(users.map((user) => [user.user, user])) }),
  rooms: (state, { rooms }) => ({ ...state, rooms: new Map(rooms.map((room) => [room.room, room])) }),
  loaded: (state) => ({ ...state, isLoaded: true }),
  fetches: (state, { fetches }) => ({ ...state, fetches: new Map(fetches.map((fetch) => [fetch.number, fetch])) }),
  sends: (state, { sends }) => ({ ...state, sends }),
  shares: (state, { shares }) => ({ ...state, shares }),
  user: (state, { name, change }) => changeUser(state, name, change),
  muted: (state, { name, muted }) => changePartner(state, name, { muted }),
  event: reduceEvent,
  typing_over: (state, { now }) => ({ ...state, typing: stillWriting(state.typing, now) }),

  loading: (state, { name, isLoading }) => changeConversation(state, name, { isLoading }),
  history: reduceHistory,
  history_failed: (state, { name, error }) => changeConversation(state, name, { error, isLoading: false }),
  stale: (state) => ({
    ...state,
    conversations: new Map([...state.conversations].map(([name, shown]) => [name, { ...shown, isStale: true, error: null }])),
    // The end of one may be among the events that were missed; those that go on tell of themselves.
    given: new Map(),
  }),
  read: (state, { name }) => changePartner(state, name, { unread: 0 }),
  seen: (state, { name }) => changeConversation(state, name, { unseen: 0 }),
  message: (state, { name, message }) => changeMessages(state, name, (list) => withMessage(list, message)),
  message_change: (state, { name, id, change }) => changeMessages(state, name, (list) => withChange(list, id, change)),
  message_gone: (state, { name, id }) => changeMessages(state, name, (list) => withoutMessage(list, id)),
  message_stored: (state, { name, local, message }) =>
    changeMessages(state, name, (list) => withMessage(local === message.id ? list : withoutMessage(list, local), message)),
  message_unsent: (state, { name, id, why }) => changeMessages(state, name, (list) =>
    // An answer that was lost says nothing about a message that an event told of.
    (list.some((message) => message.id === id && message.state === "sending") ? withChange(list, id, { state: "unsent", why }) : list)),

  draft: (state, { name, text }) => ({ ...state, drafts: withEntry(state.drafts, name, text || undefined) }),

  // Below what was written since.
  words_back: (state, { name, text }) =>
    ({ ...state, drafts: withEntry(state.drafts, name, [state.drafts.get(name), text].filter(Boolean).join("\n")) }),

  upload: (state, { upload }) => ({ ...state, uploads: withEntry(state.uploads, upload.key, upload) }),
  upload_change: reduceUploadChange,
  upload_gone: (state, { key }) => ({ ...state, uploads: withEntry(state.uploads, key, undefined) }),
};

/** Returns the state after an action. */
export function reduce(state, action) {
  return REDUCERS[action.type](state, action);
}

/** What is told of an upload after it was removed brings nothing back. */
function reduceUploadChange(state, { key, change }) {
  const upload = state.uploads.get(key);
  return upload ? { ...state, uploads: withEntry(state.uploads, key, { ...upload, ...change }) } : state;
}

/** Returns those who write still; a conversation in which nobody stopped keeps its entry. */
function stillWriting(typing, now) {
  const left = [...typing].map(([name, writers]) => {
    const still = [...writers].filter(([, until]) => until > now);
    return [name, still.length === writers.size ? writers : new Map(still)];
  });
  return new Map(left.filter(([, writers]) => writers.size > 0));
}

/** After a logout nothing of the account stays in the page. */
const closed = (state) => ({ ...initialState(state.route, state.preferences), stream: state.stream });

/** Takes in messages that were read from the history: the newest ones, or further ones at one of the edges. */
function reduceHistory(state, { name, side, messages: read, more, moreNewer = false }) {
  const shown = state.conversations.get(name) ?? EMPTY_CONVERSATION;
  const done = { isLoading: false, error: null };
  if (side === "older") {
    const { messages, isCut } = withOlder(shown.messages, read, WINDOW);
    return changeConversation(state, name, { ...done, messages, hasOlder: more, hasNewer: shown.hasNewer || isCut });
  }
  if (side === "newer") {
    const { messages, isCut } = withNewer(shown.messages, read, WINDOW);
    return changeConversation(state, name, { ...done, messages, hasNewer: more, hasOlder: shown.hasOlder || isCut });
  }
  if (side === "around") {
    return changeConversation(state, name, { ...done, messages: withKnown(shown.messages, read), hasOlder: more, hasNewer: moreNewer, isStale: false });
  }
  const messages = withNewest(shown.messages, read);
  const unreadAfter = shown.unreadAfter ?? firstUnread(read, conversationPartner(state, name)?.unread ?? 0, state.session?.user);
  return changeConversation(state, name,
    { ...done, messages, hasOlder: more, hasNewer: false, isStale: false, unseen: 0, unreadAfter });
}

/** Returns the place after which the last `unread` messages of others begin. */
function firstUnread(messages, unread, me) {
  let left = unread;
  for (let at = messages.length - 1; at >= 0 && left > 0; at -= 1) {
    if (messages[at].from !== me) left -= 1;
    if (left === 0 && typeof messages[at].seq === "number") return messages[at].seq - 1;
  }
  return unread > 0 ? (edgeSeq(messages, "older") ?? 1) - 1 : null;
}

/** A conversation that is left forgets its mark of unread messages, and those far from its end. */
function leaveConversation(state, { section, name }) {
  const shown = section === "chats" && name ? state.conversations.get(name) : undefined;
  if (!shown || (state.route.section === section && state.route.name === name)) return state;
  return changeConversation(state, name, { unreadAfter: null, unseen: 0, isStale: shown.isStale || shown.hasNewer, error: null });
}
