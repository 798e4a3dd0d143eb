/**
 * What the user shares: the list, files dropped on it, and the end of a share.
 * @module
 */

import { loadList, removeShare } from "./actions.js";
import { askFirst } from "./dialogs.js";
import { chosenFiles, watchDrops } from "./drop_zone.js";
import { button, h, icon, iconButton, setText } from "./elements.js";
import { matchingRows } from "./file_tree.js";
import { paneHead } from "./files_view.js";
import { safeName, sizeText } from "./format.js";
import { fileName } from "./name_parts.js";
import { t, tn } from "./texts.js";
import { VirtualList } from "./virtual_list.js";

/** @param {import("./main.js").App} app */
export function createShares(app) {
  const picker = h("input", { type: "file", multiple: true, hidden: true });
  const status = h("p", { class: "list-status", role: "status" });
  const filter = h("input", { type: "search", class: "filter", "aria-label": t("filter_files"), placeholder: t("filter_files") });
  const list = new VirtualList({
    label: t("my_shares"), key: (row) => row.key, update: () => {},
    create: (row) => shareRow(app, row),
  });
  let problem = "";
  const draw = () => {
    const { shares } = app.store.state;
    list.set(matchingRows(shares ?? [], filter.value));
    const bytes = (shares ?? []).reduce((sum, { size }) => sum + size, 0);
    setText(status, !shares ? problem || t("loading") : shares.length === 0 ? t("you_share_nothing") : `${tn("file_count", shares.length)} · ${sizeText(bytes)}`);
  };
  const share = (files) => {
    if (files.length === 0) return;
    app.uploads.share(files);
    app.tell(tn("uploading", files.length), { action: t("show"), place: "transfers" });
  };
  filter.addEventListener("input", draw);
  picker.addEventListener("change", () => {
    share(chosenFiles(app, picker.files));
    picker.value = "";
  });
  const choose = button(t("share_files"), () => picker.click(), { class: "button primary" });
  const drop = h("div", { class: "drop-hint" }, icon("plus"), h("p", {}, t("drop_here")), choose, picker);
  const element = h("section", { class: "pane", "aria-labelledby": "pane-title" },
    paneHead(t("my_shares"), h("a", { class: "button", href: "#/files" }, t("files"))),
    drop, h("div", { class: "search-bar", role: "search" }, icon("search"), filter), status, list.element);
  const ends = [watchDrops(app, element, t("drop_to_share"), share), app.store.watch((state) => state.shares, draw)];
  loadList(app, "shares").catch((why) => {
    if (app.store.state.shares) return app.tell(why.message, { isProblem: true });
    problem = why.message;
    draw();
  });
  return { element, focus: () => choose.focus(), close: () => ends.forEach((end) => end()) };
}

function shareRow(app, row) {
  const remove = () => askFirst(t("unshare"), t("unshare_words", { name: safeName(row.name) }), t("unshare"), () => removeShare(app, row));
  const words = row.audience ? safeName(row.audience) : t("everybody");
  return h("div", { class: "row file-row", role: "group", "aria-label": `${safeName(row.name)}, ${sizeText(row.size)}, ${words}`, "aria-keyshortcuts": "Delete",
    keydown: (event) => event.key === "Delete" && remove() },
  icon("file"), fileName(row.shown), h("span", { class: "row-facts" }, words), h("span", { class: "size" }, sizeText(row.size)),
  iconButton("trash", t("unshare_named", { name: safeName(row.name) }), remove, { tabindex: "-1" }));
}

