/**
 * The state's shape, its beginning, and what can be read out of it. Objects of the API are kept as they come.
 * @module
 */

/**
 * @typedef {{user: string, mode: "local"|"door", tracker?: string, version?: string, download_folder?: string,
 *   fingerprint?: string}} Session
 * @typedef {{user: string, online: boolean|null, unread: number, waiting: number, frozen: boolean, blocked: boolean,
 *   request: boolean, muted: boolean, last: number|null}} User
 * @typedef {{user: string, role: string, online: boolean}} Member
 * @typedef {{room: string, topic: string, role?: string, members: Member[], waiting: number, unread: number,
 *   muted?: boolean, last?: number}} Room
 * @typedef {{id: string, seq?: number, at?: number, ts: number, peer: string, from: string, text: string, state: string,
 *   room?: string, count?: number, of?: number, late?: boolean, mentions_me?: boolean, why?: string,
 *   offer?: {name: string, size: number}, send?: {name: string, kind: string, files: number, size: number},
 *   note?: object}} Message
 * @typedef {{messages: Message[], hasOlder: boolean, hasNewer: boolean, isLoading: boolean, isStale: boolean,
 *   unreadAfter: number|null, unseen: number, error: string|null}} Conversation
 * @typedef {{number: number, from: string, name: string, bytes: number, size: number, state: string, why?: string,
 *   files?: Array<{name: string, path?: string, size: number, state: string}>}} Fetch
 * @typedef {{key: string, drop: string, name: string, size: number, sent: number, state: string, why?: string}} Upload
 * @typedef {{section: "chats"|"files"|"transfers"|"settings"|"shares", name: string|null, folder: string}} Route
 *
 * @typedef {object} PageState
 * @property {"starting"|"login"|"closed"|"open"} phase
 * @property {Session|null} session
 * @property {"connecting"|"live"|"lost"} stream - The stream of events.
 * @property {{reachable: boolean, why?: string, elsewhere?: object}} tracker
 * @property {boolean} isNodeThere - False while the server has no node to ask.
 * @property {Route} route
 * @property {boolean} isLoaded - True after the first lists came.
 * @property {Map<string, User>} users
 * @property {Map<string, Room>} rooms
 * @property {Map<string, Conversation>} conversations
 * @property {Map<string, Map<string, number>>} typing - Who writes, by conversation, and until when it is shown.
 * @property {Map<number, Fetch>} fetches
 * @property {Map<string, object>} given - Files that others fetch from us, while it lasts.
 * @property {object[]} sends
 * @property {object[]|null} shares
 * @property {Map<string, Upload>} uploads
 * @property {Map<string, string>} drafts - What was written and not sent, by conversation.
 * @property {{theme: string, density: string, notifications: boolean, sounds: boolean}} preferences
 */

/** The messages of one conversation that are kept and drawn; the others are read again when they are scrolled to. */
export const WINDOW = 300;

/** @type {Conversation} */
export const EMPTY_CONVERSATION = Object.freeze({
  messages: [], hasOlder: false, hasNewer: false, isLoading: false, isStale: true, unreadAfter: null, unseen: 0, error: null,
});

export const DEFAULT_PREFERENCES = Object.freeze({ theme: "auto", density: "comfortable", notifications: false, sounds: false });

/** @returns {PageState} */
export function initialState(route, preferences) {
  return {
    phase: "starting",
    session: null,
    stream: "connecting",
    tracker: { reachable: true },
    isNodeThere: true,
    route,
    isLoaded: false,
    users: new Map(),
    rooms: new Map(),
    conversations: new Map(),
    typing: new Map(),
    fetches: new Map(),
    given: new Map(),
    sends: [],
    shares: null,
    uploads: new Map(),
    drafts: new Map(),
    preferences,
  };
}

/** Returns true for the name of a room's conversation. */
export const isRoom = (name) => name.startsWith("#");

/** Returns the conversation's person or room. */
export function conversationPartner(state, name) {
  return isRoom(name) ? state.rooms.get(name.slice(1)) : state.users.get(name);
}

/** Returns the number of unread messages that the title tells of: all that isn't muted, blocked or a request. */
export function unreadTotal(state) {
  let total = 0;
  for (const user of state.users.values()) if (!user.muted && !user.blocked && !user.request) total += user.unread;
  for (const room of state.rooms.values()) if (!room.muted) total += room.unread;
  return total;
}

/** Returns the strangers who wait for an answer. */
export const requestCount = (state) => [...state.users.values()].filter((user) => user.request && !user.blocked).length;

/** Returns the conversation that is open in this page, if there is one. */
export const openName = (state) => (state.route.section === "chats" ? state.route.name : null);

/** Returns those who write in a conversation now. */
export function writersIn(state, name, now) {
  const writers = state.typing.get(name);
  return writers ? [...writers].filter(([, until]) => until > now).map(([user]) => user) : [];
}

/** Plain order: `localeCompare` takes 60 ms for 5,000 names, and the list is sorted at each message. */
const byName = (a, b) => (a < b ? -1 : Number(a > b));

/** Returns the rows of the list of conversations: headings, rooms, people; those that match the words of a filter. */
export function conversationRows(users, rooms, filter) {
  const words = filter.trim().toLowerCase().replace(/^#/, "");
  const matches = (name) => name.toLowerCase().includes(words);
  const me = [...users.values()].filter(({ user }) => matches(user));
  const requests = me.filter((user) => user.request && !user.blocked);
  const people = me.filter((user) => !user.request && !user.blocked);
  const blocked = words ? me.filter((user) => user.blocked) : [];
  people.sort((a, b) => (b.last ?? 0) - (a.last ?? 0) || Number(b.online === true) - Number(a.online === true)
    || byName(a.user, b.user));
  const inRooms = [...rooms.values()].filter(({ room }) => matches(room)).sort((a, b) => byName(a.room, b.room));
  return [
    ...section("requests", requests.map((user) => ({ kind: "user", name: user.user, user }))),
    ...section("rooms", inRooms.map((room) => ({ kind: "room", name: `#${room.room}`, room }))),
    ...section("people", [...people, ...blocked].map((user) => ({ kind: "user", name: user.user, user }))),
  ];
}

function section(title, rows) {
  return rows.length === 0 ? [] : [{ kind: "heading", name: `/${title}`, title, count: rows.length }, ...rows];
}
