/**
 * The page's places as addresses: the browser's back button works, and a place can be kept as a bookmark.
 *
 * | address | place |
 * |---|---|
 * | `#/chats`, `#/chats/bob`, `#/chats/%23lab` | the conversations, or one |
 * | `#/files`, `#/files/bob/folder` | search in everybody's files, or those of one user or room |
 * | `#/shares`, `#/transfers`, `#/settings` | |
 * @module
 */

const SECTIONS = new Set(["chats", "files", "shares", "transfers", "settings"]);

/** @returns {import("./state.js").Route} the place that an address names; the conversations if it names none */
export function parseRoute(hash) {
  const [section = "", name = "", folder = ""] = hash.replace(/^#\/?/, "").split("/").map(decodeSafely);
  if (!SECTIONS.has(section)) return { section: "chats", name: null, folder: "" };
  return { section, name: name || null, folder };
}

/** Returns the address of a place. */
export function routeHash(section, name = null, folder = "") {
  const parts = [section, ...(name ? [name] : []), ...(folder ? [folder] : [])];
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}

/** Leads to a place. */
export function goTo(section, name = null, folder = "") {
  location.hash = routeHash(section, name, folder);
}

/** Lets the state follow the address. */
export function watchAddress(store) {
  addEventListener("hashchange", () => store.dispatch({ type: "route", route: parseRoute(location.hash) }));
}

function decodeSafely(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return "";
  }
}
