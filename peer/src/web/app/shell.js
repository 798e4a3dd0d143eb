/**
 * The frame of the page: sections, the list of conversations, and the one view that the address names.
 * @module
 */

import { createConversation } from "./conversation_view.js";
import { button, h, icon, isTouch, setAttribute, setText } from "./elements.js";
import { createFileSearch, createFilesOf } from "./files_view.js";
import { createClosed, createLogin } from "./login_view.js";
import { countBadge, setBadge } from "./name_parts.js";
import { openNewMenu } from "./people_dialogs.js";
import { routeHash } from "./router.js";
import { createSettings } from "./settings_view.js";
import { createShares } from "./shares_view.js";
import { createSidebar } from "./sidebar.js";
import { requestCount, unreadTotal } from "./state.js";
import { t, tn } from "./texts.js";
import { createTransfers } from "./transfers_view.js";

const SECTIONS = [["chats", "chat"], ["files", "folder"], ["transfers", "transfer"], ["settings", "gear"]];

/** Draws the page into its root, as the state goes on. @param {import("./main.js").App} app */
export function drawShell(app) {
  const root = document.getElementById("app");
  const skip = document.getElementById("skip");
  setText(skip, t("skip_to_content"));
  // Its address would be taken for a place of the page.
  skip.addEventListener("click", (event) => {
    event.preventDefault();
    document.getElementById("main")?.focus();
  });
  let view = null;
  app.store.watch((state) => [state.phase, state.session?.mode], ([phase, mode]) => {
    if (phase === "starting") return;
    view?.close();
    view = phase === "open" ? openFrame(app) : phase === "login" && mode === "door" ? createLogin(app) : createClosed(app.closedReason);
    root.className = phase === "open" ? "app" : "app outside";
    root.replaceChildren(...[view.element].flat());
    if (phase !== "open") view.focus();
  });
}

/** Creates what stands around the views. */
function openFrame(app) {
  const main = h("main", { class: "main", id: "main", tabindex: "-1" });
  const ends = [];
  let [view, last] = [null, null];
  ends.push(app.store.watch((state) => state.route, (route) => {
    view?.close();
    app.attention.isAtBottom = true;
    const root = document.getElementById("app");
    root.dataset.section = route.section;
    root.dataset.depth = route.section === "chats" && route.name === null ? "list" : "pane";
    root.dataset.inside = String(route.name !== null);
    view = createView(app, route);
    main.replaceChildren(view.element);
    // Not at the beginning: a page that just opened has no focus to move.
    if (last !== null && !isSamePane(route, last)) focusView(view, main);
    last = route;
  }));
  app.focusView = () => focusView(view, main);
  const element = [banner(app, ends), rail(app, ends), createSidebar(app), main];
  return { element, focus: () => main.focus(), close: () => [...ends, () => view?.close()].forEach((end) => end()) };
}

const isSamePane = (a, b) => a.section === b.section && a.name === b.name;

/** A touch screen's keyboard isn't to jump up at each view. */
function focusView(view, main) {
  if (isTouch()) main.focus({ preventScroll: true });
  else view.focus();
}

function createView(app, { section, name, folder }) {
  if (section === "files") return name ? createFilesOf(app, name, folder) : createFileSearch(app);
  if (section === "shares") return createShares(app);
  if (section === "transfers") return createTransfers(app);
  if (section === "settings") return createSettings(app);
  return name ? createConversation(app, name) : createWelcome(app);
}

function createWelcome(app) {
  const element = h("section", { class: "welcome" }, h("p", { class: "brand" }, "Vizinho"), h("p", {}, t("welcome")),
    button(t("new_conversation"), () => openNewMenu(app)), h("p", { class: "hint" }, h("kbd", {}, "Ctrl K"), " ", t("key_jump")));
  return { element, focus: () => element.querySelector("button").focus(), close: () => {} };
}

function rail(app, ends) {
  const links = SECTIONS.map(([section, shape]) => {
    const badge = countBadge();
    const link = h("a", { class: "rail-link", href: routeHash(section) }, icon(shape), h("span", { class: "rail-text" }, t(section)), badge);
    return { section, link, badge };
  });
  const badgeOf = (wanted) => links.find(({ section }) => section === wanted).badge;
  ends.push(app.store.watch((state) => state.route.section, (current) => {
    const shown = current === "shares" ? "files" : current;
    for (const { section, link } of links) setAttribute(link, "aria-current", section === shown ? "page" : null);
  }));
  ends.push(app.store.watch((state) => unreadTotal(state) + requestCount(state), (count) => setBadge(badgeOf("chats"), count, tn("unread", count))));
  ends.push(app.store.watch(runningTransfers, (count) => setBadge(badgeOf("transfers"), count, tn("running", count))));
  return h("nav", { class: "rail", "aria-label": t("sections") }, links.map(({ link }) => link));
}

function runningTransfers({ fetches, uploads }) {
  const isRunning = ({ state }) => ["running", "waiting", "retrying", "uploaded", "preparing"].includes(state);
  return [...fetches.values(), ...uploads.values()].filter(isRunning).length;
}

/** Says what doesn't work just now. */
function banner(app, ends) {
  const words = h("p", {});
  const element = h("div", { class: "banner", role: "alert", hidden: true }, words);
  ends.push(app.store.watch((state) => [state.stream, state.tracker, state.isNodeThere], ([stream, tracker, isNodeThere]) => {
    const text = stream === "lost" ? t("banner_lost") : !isNodeThere ? t("banner_node") : tracker.elsewhere ? t("banner_elsewhere") : tracker.reachable ? "" : t("banner_tracker");
    element.hidden = text === "";
    element.dataset.kind = stream === "lost" || !isNodeThere ? "lost" : "tracker";
    setText(words, text);
  }));
  return element;
}
