/**
 * The page of `peer web` and of the door: a peer's face in the browser.
 *
 * Plain modules, as they stand here, go to the browser. There is no framework, no package and no build step: nothing to
 * keep up to date, nothing to build, and what is read here is what runs. The price is about 100 lines of `elements.js`,
 * `store.js` and `virtual_list.js` that a framework would bring.
 *
 * ```text
 * main ─► shell ─► views (sidebar, conversation, files, shares, transfers, settings, login)
 *   │                │ watch                                   │ call
 *   │                ▼                                         ▼
 *   │              store ◄── reducer ◄── event_reducer      actions ─► api_client ─► /api/v1
 *   └► event_stream ──► dispatch({type: "event"}) ┘ (pure)
 * ```
 *
 * - The state is one value (`state.js`). Only the reducers change it, and they are pure.
 * - Text from others becomes a text node, in an element that isolates its direction; `format.js` makes hidden characters
 *   visible. Nothing is ever read as HTML, and the policy of the server forbids all but these files.
 * - What is long is drawn in part: `virtual_list.js` for lists, a window of messages for conversations.
 *
 * | resource | bound | beyond |
 * |---|---|---|
 * | messages of a conversation in memory and on the page | 300 | read again when scrolled to |
 * | rows of a list on the page | those in sight | |
 * | files of a drop | 5,000 | left out |
 * | uploads at once | 2 | they wait |
 * | files that others fetch, shown | the last 50 | forgotten |
 * @module
 */

import { loadList, loadLists, markOutdated, saveFile } from "./actions.js";
import { ApiClient } from "./api_client.js";
import { Attention } from "./attention.js";
import { refuseOtherDrops } from "./drop_zone.js";
import { TYPING_MS } from "./event_reducer.js";
import { EventStream } from "./event_stream.js";
import { safeName } from "./format.js";
import { watchShortcuts } from "./keyboard.js";
import { Notifier, watchTitle } from "./notifier.js";
import { endSession, forgetSession, openSession, renewPage, takeClosingReason, watchOpenToken } from "./page_session.js";
import { loadPreferences, watchPreferences } from "./preferences.js";
import { reduce } from "./reducer.js";
import { parseRoute, watchAddress } from "./router.js";
import { drawShell } from "./shell.js";
import { initialState, openName } from "./state.js";
import { Store } from "./store.js";
import { language, t } from "./texts.js";
import { announce, createToasts } from "./toasts.js";
import { UploadQueue } from "./upload_queue.js";

/** The pause after which a hint that a list changed is followed: hints come in flocks. */
const HINT_PAUSE_MS = 150;
/** The lists that an event of a type changes. */
const CHANGED_LISTS = { tracker: ["users"], room: ["rooms"], receipt: ["sends"], users: ["users"], rooms: ["rooms"], shares: ["shares"], sends: ["sends"] };

/** The lists of which such an event changes one entry: a list that is being read may not have it. */
const TOUCHED_LISTS = {
  message: ["users", "rooms"], offer: ["users"], request: ["users"], request_accepted: ["users"], held: ["users"],
  presence: ["users", "rooms"], read: ["users", "rooms"],
};

/**
 * What all views have.
 * @typedef {{store: Store, api: ApiClient, attention: Attention, uploads: UploadQueue, startedFetches: Set<number>,
 *   closedReason: string, tell: Function, attempt: Function, announce: Function, open: Function, close: Function,
 *   logout: Function, followFetch: Function, focusView: Function}} App
 */

/** @returns {App} */
function createApp() {
  const store = new Store(reduce, initialState(parseRoute(location.hash), loadPreferences()));
  const api = new ApiClient({ unreachable: t("unreachable"), onSessionEnd: (mode) => close(mode) });
  const app = {
    store, api, attention: new Attention(store), startedFetches: new Set(), closedReason: takeClosingReason(), announce, ...createToasts(),
  };
  app.uploads = new UploadQueue(app);
  const notifier = new Notifier(app);
  const readLater = createHintQueue(app);
  let [stream, hasServed] = [null, false];

  /** Leaves the session: by logout, or because the server ended it. */
  function close(mode = store.state.session?.mode) {
    const isEnd = store.state.phase === "open";
    stream?.close();
    stream = null;
    if (isEnd) app.uploads.stop();
    forgetSession(api);
    store.dispatch({ type: "phase", phase: mode === "door" ? "login" : "closed", mode });
    if (isEnd) renewPage(api, app.closedReason);
  }

  function handleEvent(event) {
    const wasThere = store.state.isNodeThere;
    const name = openName(store.state);
    store.dispatch({ type: "event", event, now: Date.now(), attended: app.attention.isOn() ? name : null });
    notifier.handle(event);
    TOUCHED_LISTS[event.type]?.forEach(markOutdated);
    // Its progress comes again and again, its end once.
    if (event.type === "fetch" && event.state !== "running") markOutdated("fetches");
    if (event.type === "typing") setTimeout(() => store.dispatch({ type: "typing_over", now: Date.now() }), TYPING_MS + 50);
    if (event.type === "fetch") app.followFetch(event);
    if (event.type === "node" && event.connected && !wasThere) readAll();
    if (event.type === "resync") catchUp();
    if (event.type === "drop") app.uploads.handleDrop(event);
    if (event.type === "problem") app.tell(event.text, { isProblem: true });
    if (event.type === "account_moved") app.closedReason = t("account_moved");
    if (event.type === "session_ended" || event.type === "account_moved") close();
    if (event.type !== "room" || event.kind !== "delivered") CHANGED_LISTS[event.type]?.forEach(readLater);
  }

  const readAll = () => loadLists(app).catch((why) => app.tell(why.message, { isProblem: true }));
  const catchUp = () => {
    app.uploads.handleResync();
    return readAll();
  };

  /** Opens the page of a session: lists are read once the stream of events stands. */
  app.open = (session) => {
    // One page serves one session. The secret is kept: the next page opens with it.
    if (hasServed) return location.reload();
    hasServed = true;
    app.closedReason = "";
    store.dispatch({ type: "phase", phase: "open", session });
    stream = new EventStream(api, {
      onEvent: handleEvent,
      onResync: catchUp,
      onState: (state) => store.dispatch({ type: "stream", stream: state }),
    });
    stream.run();
  };
  app.logout = async () => {
    await endSession(api);
    close();
  };
  app.close = close;
  app.followFetch = (fetch) => followFetch(app, fetch);
  return app;
}

/** Reads lists again, each once for many hints. */
function createHintQueue(app) {
  const timers = new Map();
  return (list) => {
    if (timers.has(list) || (list === "shares" && app.store.state.shares === null)) return;
    timers.set(list, setTimeout(() => {
      timers.delete(list);
      loadList(app, list).catch(() => {});
    }, HINT_PAUSE_MS));
  };
}

/**
 * Tells of the end of a fetch that this page began. At the door a fetched file goes on to the browser's machine; a folder's
 * files have a button each.
 */
function followFetch(app, fetch) {
  if (fetch.state !== "done" || !app.startedFetches.delete(fetch.number)) return;
  if (app.store.state.session?.mode === "door" && fetch.files?.length === 1) saveFile(app, fetch.number, fetch.files[0].name);
  else app.tell(t("fetch_done", { name: safeName(fetch.name.split("/").findLast(Boolean)) }), { action: t("show"), place: "transfers" });
}

async function start() {
  document.documentElement.lang = language;
  const app = createApp();
  watchPreferences(app.store);
  watchTitle(app.store);
  watchShortcuts(app);
  refuseOtherDrops();
  drawShell(app);
  try {
    app.open(await openSession(app.api));
  } catch (why) {
    if (why.status === 0) app.closedReason = why.message;
    app.close(why.body?.mode);
  }
  // After the token was taken out of the address.
  app.store.dispatch({ type: "route", route: parseRoute(location.hash) });
  watchAddress(app.store);
  watchOpenToken();
}

start();
