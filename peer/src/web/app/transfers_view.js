/**
 * Transfers: downloads, uploads of this page, sends, and what others fetch from us; each with its bar.
 * @module
 */

import { changeSend, saveFile, startFetch, stopFetch } from "./actions.js";
import { button, h, icon, iconButton, reconcile, setText } from "./elements.js";
import { paneHead } from "./files_view.js";
import { durationText, safeName, shortTimeText, sizeText } from "./format.js";
import { fileName, nameText, progressBar, setBar } from "./name_parts.js";
import { WatchScope } from "./store.js";
import { t, tn } from "./texts.js";
import { RateMeters } from "./rate_meter.js";

/** The files of one fetched folder that are shown, until more are asked for. */
const SAVED_ROWS = 30;

/** @param {import("./main.js").App} app */
export function createTransfers(app) {
  const scope = new WatchScope(app.store);
  const rates = new RateMeters();
  const empty = h("p", { class: "list-status" }, t("no_transfers"));
  const sections = [
    transferSection(t("downloads"), (state) => [...state.fetches.values()].toReversed(), fetchRows(app, rates)),
    transferSection(t("uploads"), (state) => [...state.uploads.values()].toReversed(), uploadRows(app, rates)),
    transferSection(t("sends"), (state) => state.sends.toReversed(), sendRows(app)),
    transferSection(t("given"), (state) => [...state.given.values()].toReversed(), givenRows(rates)),
  ];
  for (const { select, draw } of sections) {
    scope.watch(select, (items) => {
      draw(items);
      empty.hidden = sections.some(({ select: other }) => other(app.store.state).length > 0);
    });
  }
  const clear = button(t("clear_ended"), () => app.uploads.clear());
  return {
    element: h("section", { class: "pane", "aria-labelledby": "pane-title" }, paneHead(t("transfers"), clear),
      h("div", { class: "pane-scroll" }, empty, ...sections.map(({ element }) => element))),
    focus: () => {}, close: () => scope.close(),
  };
}

function transferSection(title, select, rows) {
  const list = h("ul", { class: "transfers" });
  const element = h("section", { class: "transfer-section", "aria-label": title }, h("h2", { class: "list-heading" }, title), list);
  return {
    element, select,
    draw: (items) => {
      element.hidden = items.length === 0;
      reconcile(list, items, rows);
    },
  };
}

/** Creates the frame of a row: icon, name, facts, state, bar, buttons. */
function transferRow(kind, name, facts) {
  const [state, tools, bar] = [h("p", { class: "transfer-state" }), h("div", { class: "transfer-tools" }), progressBar(safeName(name))];
  const element = h("li", { class: "transfer" }, icon(kind), h("div", { class: "transfer-name" }, fileName(name), h("span", { class: "transfer-who" }, ...facts)), tools, bar, state);
  return Object.assign(element, { parts: { state, tools, bar } });
}

function showProgress({ parts }, rates, key, { bytes, size, state, why }) {
  const isRunning = state === "running" || state === "retrying" || state === "preparing";
  setBar(parts.bar, bytes, size);
  parts.bar.hidden = !isRunning && state !== "waiting" && state !== "stopped";
  parts.state.classList.toggle("problem", state === "failed");
  const speed = isRunning ? rates.rate(key, bytes, performance.now()) : 0;
  const rest = speed > 0 ? `${sizeText(speed)}/s · ${t("time_left", { time: durationText((size - bytes) / speed) })}` : "";
  // What was here already is done with nothing to move.
  const amount = state === "done" ? (size > 0 ? sizeText(size) : "") : `${sizeText(bytes)} / ${sizeText(size)}`;
  setText(parts.state, [isRunning && state === "running" ? "" : t(`transfer_${state}`), amount, rest, why ?? ""].filter(Boolean).join(" · "));
}

function fetchRows(app, rates) {
  const update = (element, fetch) => {
    showProgress(element, rates, `fetch ${fetch.number}`, fetch);
    drawTools(element, `${fetch.state} ${fetch.files?.length ?? 0}`, () => fetchTools(app, fetch, element));
  };
  return {
    key: (fetch) => String(fetch.number), update,
    create: (fetch) => {
      const element = transferRow("download", fetch.name.replace(/\/$/, ""), [t("from"), " ", nameText(fetch.from)]);
      update(element, fetch);
      return element;
    },
  };
}

function fetchTools(app, fetch, element) {
  element.querySelector(".saved-files")?.remove();
  if (fetch.state === "running") return [iconButton("pause", t("stop_named", { name: safeName(fetch.name) }), () => stopFetch(app, fetch.number))];
  if (fetch.state === "done") {
    if (app.store.state.session.mode !== "door") return [];
    const files = (fetch.files ?? []).filter((file) => file.state !== "failed");
    if (files.length > 1) element.append(h("ul", { class: "saved-files" }, savedRows(app, fetch.number, files)));
    return files.length === 1 ? [button(t("save"), () => saveFile(app, fetch.number, files[0].name), { "aria-label": t("save_named", { name: safeName(files[0].name) }) })] : [];
  }
  return [iconButton("play", t("go_on_named", { name: safeName(fetch.name) }), () => startFetch(app, fetch.from, fetch.name))];
}

/** Creates a row for each file of a fetched folder: the first ones, and one that shows further ones. */
function savedRows(app, number, files) {
  const rows = files.slice(0, SAVED_ROWS).map((file) => h("li", {}, fileName(file.name), h("span", { class: "size" }, sizeText(file.size)),
    iconButton("download", t("save_named", { name: safeName(file.name) }), () => saveFile(app, number, file.name))));
  const rest = files.slice(SAVED_ROWS);
  if (rest.length === 0) return rows;
  const more = h("li", {}, button(tn("show_more_files", rest.length), () => {
    const further = savedRows(app, number, rest);
    more.replaceWith(...further);
    further[0].querySelector("button").focus();
  }, { class: "link-button" }));
  return [...rows, more];
}

/** Draws the buttons of a row if they are others than before: one that is replaced while it is pressed does nothing. */
function drawTools({ parts: { tools } }, mode, create) {
  if (tools.dataset.mode === mode) return;
  tools.dataset.mode = mode;
  tools.replaceChildren(...create());
}

/** The states in which an upload can be cancelled: later the node has the whole drop. */
const CANCELLABLE = new Set(["waiting", "running", "retrying", "uploaded"]);

function uploadRows(app, rates) {
  const update = (element, upload) => {
    showProgress(element, rates, `upload ${upload.key}`, { ...upload, bytes: upload.sent });
    const canCancel = CANCELLABLE.has(upload.state);
    drawTools(element, String(canCancel), () =>
      (canCancel ? [iconButton("close", t("cancel_named", { name: safeName(upload.name) }), () => app.uploads.cancel(upload.key))] : []));
  };
  return {
    key: (upload) => upload.key, update,
    create: (upload) => {
      const element = transferRow("file", upload.name, upload.to ? [t("to"), " ", nameText(upload.to)] : [t("for_everybody")]);
      update(element, upload);
      return element;
    },
  };
}

function sendRows(app) {
  const update = (element, send) => {
    const { parts } = element;
    const isWaiting = send.state === "waiting";
    parts.bar.hidden = true;
    const facts = [t(`send_${send.paused ? "paused" : send.state}`), sizeText(send.size), send.files > 1 ? tn("file_count", send.files) : "",
      send.count ? tn("have_it", send.count) : "", shortTimeText(send.at)];
    setText(parts.state, facts.filter(Boolean).join(" · "));
    const name = safeName(send.name);
    drawTools(element, `${isWaiting} ${send.paused}`, () => (isWaiting ? [
      send.paused ? iconButton("play", t("go_on_named", { name }), () => changeSend(app, send.number, "resume"))
        : iconButton("pause", t("pause_named", { name }), () => changeSend(app, send.number, "pause")),
      iconButton("close", t("end_named", { name }), () => changeSend(app, send.number, "end"))] : []));
  };
  return {
    key: (send) => String(send.number), update,
    create: (send) => {
      const element = transferRow(send.kind === "folder" ? "folder" : "file", send.name, send.to ? [t("to"), " ", nameText(send.to)] : []);
      update(element, send);
      return element;
    },
  };
}

function givenRows(rates) {
  const update = (element, transfer) => showProgress(element, rates, `given ${transfer.peer} ${transfer.name}`, transfer);
  return {
    key: (transfer) => `${transfer.peer}/${transfer.name}`, update,
    create: (transfer) => {
      const element = transferRow("transfer", transfer.name, [t("to"), " ", nameText(transfer.peer)]);
      update(element, transfer);
      return element;
    },
  };
}
