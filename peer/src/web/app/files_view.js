/**
 * Files: a search in what everybody shares, and what one user or room shares, folder by folder.
 * @module
 */

import { startFetch } from "./actions.js";
import { pathOf, queryOf } from "./api_client.js";
import { h, icon, iconButton, setText } from "./elements.js";
import { folderPath, folderRows, matchingRows } from "./file_tree.js";
import { safeName, shortTimeText, sizeText } from "./format.js";
import { avatar, fileName, nameText } from "./name_parts.js";
import { goTo, routeHash } from "./router.js";
import { isRoom } from "./state.js";
import { t, tn } from "./texts.js";
import { VirtualList } from "./virtual_list.js";

const SEARCH_PAUSE_MS = 250;

/** Shows the search in everybody's files. @param {import("./main.js").App} app */
export function createFileSearch(app) {
  const field = searchField(t("search_files"));
  const status = h("p", { class: "list-status", role: "status" });
  const list = fileList(app, t("files"), (row) => row.user);
  const browse = browseList(app);
  let [timer, turn] = [0, 0];
  async function look() {
    const words = field.value.trim();
    const mine = (turn += 1);
    list.element.hidden = words === "";
    browse.element.hidden = words !== "";
    if (!words) return setText(status, t("browse_words"));
    setText(status, t("searching"));
    try {
      const { files, more } = await app.api.get(`/files${queryOf({ search: words })}`);
      if (mine !== turn) return;
      list.set(files.map((file) => ({ kind: "file", key: `${file.user}/${file.name}`, shown: file.name, ...file })));
      setText(status, files.length === 0 ? t("nobody_shares") : more ? t("found_many_files", { n: files.length }) : tn("found_files", files.length));
    } catch (why) {
      if (mine === turn) setText(status, why.message);
    }
  }
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, SEARCH_PAUSE_MS);
  });
  field.addEventListener("keydown", (event) => leadIntoList(event, field.value ? list : browse));
  look();
  return {
    element: h("section", { class: "pane", "aria-labelledby": "pane-title" }, paneHead(t("files"), sharesLink()),
      h("div", { class: "search-bar", role: "search" }, icon("search"), field), status, list.element, browse.element),
    focus: () => field.focus(), close: browse.close,
  };
}

/** The people who are online and the rooms, whose files one can look at. */
function browseList(app) {
  const list = new VirtualList({
    label: t("browse"), key: (row) => row.name,
    create: (row) => h("a", { class: "row", href: routeHash("files", row.name) }, avatar(row.name), nameText(row.name),
      h("span", { class: "row-note" }, isRoom(row.name) ? t("room") : t("online")), icon("right")),
    update: () => {},
  });
  const close = app.store.watch((state) => [state.users, state.rooms], ([users, rooms]) => {
    const names = [...[...rooms.values()].filter(({ role }) => role).map(({ room }) => `#${room}`).sort(),
      ...[...users.values()].filter(({ online, blocked }) => online && !blocked).map(({ user }) => user).sort()];
    list.set(names.map((name) => ({ name })));
  });
  return Object.assign(list, { close });
}

/** Shows what a user or a room shares. */
export function createFilesOf(app, of, folder) {
  const field = searchField(t("filter_files"));
  const status = h("p", { class: "list-status", role: "status" }, t("loading"));
  const list = fileList(app, t("files_of", { name: safeName(of) }), () => of, (row) => goTo("files", of, row.name));
  let [files, isCut] = [[], false];
  const draw = () => {
    const words = field.value.trim();
    const rows = words ? matchingRows(files, words) : folderRows(files, folder);
    list.set(rows);
    const bytes = files.reduce((sum, { size }) => sum + size, 0);
    setText(status, files.length === 0 ? t("shares_nothing") : rows.length === 0 ? t("nothing_matches")
      : isCut ? t("only_first_files", { n: files.length }) : `${tn("file_count", files.length)} · ${sizeText(bytes)}`);
  };
  field.addEventListener("input", draw);
  field.addEventListener("keydown", (event) => leadIntoList(event, list));
  loadFiles(app, of).then((found) => {
    [files, isCut] = [found.files, found.isCut];
    draw();
  }, (why) => setText(status, why.message));
  const crumbs = h("nav", { class: "crumbs", "aria-label": t("folders") },
    h("a", { href: routeHash("files", of) }, t("all_files")),
    ...folderPath(folder).map(({ name, path }) => [" / ", h("a", { href: routeHash("files", of, path) }, nameText(name))]).flat());
  const talk = h("a", { class: "icon-button", href: routeHash("chats", of), "aria-label": t("conversation"), title: t("conversation") }, icon("chat"));
  const head = h("header", { class: "pane-head" }, iconButton("back", t("back"), () => history.back(), { class: "icon-button" }),
    avatar(of), h("div", { class: "head-texts" }, h("h1", { id: "pane-title" }, nameText(of)), h("p", { class: "head-line" }, t("shared_files"))),
    h("div", { class: "head-tools" }, talk));
  return {
    element: h("section", { class: "pane", "aria-labelledby": "pane-title" }, head,
      h("div", { class: "search-bar", role: "search" }, icon("search"), field), folder ? crumbs : null, status, list.element),
    focus: () => field.focus(), close: () => {},
  };
}

/** The files of the user or room that was looked at last: a step into a folder asks nobody again. */
let lastFiles = { of: null, files: [], isCut: false, at: 0 };
const KEPT_MS = 30_000;

async function loadFiles(app, of) {
  if (lastFiles.of === of && Date.now() - lastFiles.at < KEPT_MS) return lastFiles;
  const { files, more: isCut } = await app.api.get(`/files${pathOf(of)}`);
  lastFiles = { of, files, isCut, at: Date.now() };
  return lastFiles;
}

function fileList(app, label, ownerOf, onFolder) {
  const fetchRow = (row) => startFetch(app, ownerOf(row), row.kind === "folder" ? `${row.name}/` : row.name);
  return new VirtualList({
    label, key: (row) => row.key,
    create: (row) => (row.kind === "folder" ? folderRow(row, onFolder, fetchRow) : fileRow(app, row, fetchRow)),
    update: () => {},
  });
}

function fileRow(app, row, fetchRow) {
  const isMine = row.user === app.store.state.session.user;
  const facts = [row.user ? nameText(row.user, { class: "owner" }) : "", row.mtime ? h("time", {}, shortTimeText(row.mtime)) : ""];
  const download = iconButton("download", t("download_named", { name: safeName(row.name) }), () => fetchRow(row), { tabindex: "-1" });
  return h("div", { class: "row file-row", keydown: (event) => enterOn(event, () => !isMine && fetchRow(row)), "aria-label": `${safeName(row.name)}, ${sizeText(row.size)}`, "aria-keyshortcuts": "Enter", role: "group" },
    icon("file"), fileName(row.shown), h("span", { class: "row-facts" }, ...facts), h("span", { class: "size" }, sizeText(row.size)),
    isMine ? h("span", { class: "mine-mark" }, t("mine")) : download);
}

function folderRow(row, onFolder, fetchRow) {
  return h("div", { class: "row file-row folder-row", role: "group", "aria-label": `${safeName(row.name)}, ${tn("file_count", row.count)}`, "aria-keyshortcuts": "Enter",
    keydown: (event) => enterOn(event, () => onFolder(row)), click: (event) => !event.target.closest("button") && onFolder(row) },
  icon("folder"), fileName(row.shown), h("span", { class: "row-facts" }, tn("file_count", row.count)), h("span", { class: "size" }, sizeText(row.size)),
  iconButton("download", t("download_named", { name: safeName(row.name) }), () => fetchRow(row), { tabindex: "-1" }));
}

function enterOn(event, act) {
  if (event.key !== "Enter" || event.target !== event.currentTarget) return;
  event.preventDefault();
  act();
}

const searchField = (label) => h("input", { type: "search", class: "filter", "aria-label": label, placeholder: label, autocomplete: "off", spellcheck: "false" });

function leadIntoList(event, list) {
  if (event.key !== "ArrowDown" && event.key !== "Enter") return;
  event.preventDefault();
  list.focus(0);
}

const sharesLink = () => h("a", { class: "button", href: routeHash("shares") }, t("my_shares"));

/** Creates the head of a pane. */
export function paneHead(title, ...tools) {
  return h("header", { class: "pane-head" }, h("div", { class: "head-texts" }, h("h1", { id: "pane-title" }, title)), h("div", { class: "head-tools" }, ...tools));
}
