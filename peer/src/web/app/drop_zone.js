/**
 * Files that a person gives to the page: chosen, or dropped on a part of it, folders with all that is in them.
 * @module
 */

import { h } from "./elements.js";
import { isHidden } from "./file_names.js";
import { t, tn } from "./texts.js";

/** @typedef {import("./file_names.js").ChosenFile} ChosenFile */

/** The files that one drop may have. */
const MOST_FILES = 5000;

/**
 * Takes the files that are dropped on `element`.
 * @param {import("./main.js").App} app
 * @param {HTMLElement} element
 * @param {string} words - Shown while files are held over it.
 * @param {(files: ChosenFile[]) => void} onFiles
 * @returns {() => void} a function that ends it
 */
export function watchDrops(app, element, words, onFiles) {
  const cover = h("div", { class: "drop-cover", hidden: true }, h("p", {}, words));
  element.append(cover);
  let depth = 0;
  const show = (change) => {
    depth = Math.max(depth + change, 0);
    cover.hidden = depth === 0;
  };
  const handlers = {
    dragenter: (event) => hasFiles(event) && show(1),
    dragleave: (event) => hasFiles(event) && show(-1),
    dragover: (event) => hasFiles(event) && event.preventDefault(),
    drop: (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      show(-depth);
      // A folder that can't be read is told of.
      app.attempt(async () => onFiles(tellLeftOut(app, await droppedFiles(event.dataTransfer))));
    },
  };
  for (const [name, handler] of Object.entries(handlers)) element.addEventListener(name, handler);
  return () => Object.entries(handlers).forEach(([name, handler]) => element.removeEventListener(name, handler));
}

/** Returns the files that were chosen or pasted, without those that no node takes. @returns {ChosenFile[]} */
export function chosenFiles(app, files) {
  const found = new FoundFiles();
  for (const file of files) found.add(file, file.name);
  return tellLeftOut(app, found);
}

/** Files that are dropped beside a target would replace the page. */
export function refuseOtherDrops() {
  for (const name of ["dragover", "drop"]) {
    addEventListener(name, (event) => {
      if (event.defaultPrevented || !hasFiles(event)) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "none";
    });
  }
}

const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

/** Files, and how many were left out. */
class FoundFiles {
  /** @type {ChosenFile[]} */
  files = [];
  hidden = 0;
  isFull = false;

  /** Adds a file. What is hidden, as a system's notes in each folder, is counted only. */
  add(file, name) {
    if (isHidden(name)) this.hidden += 1;
    else if (this.files.length >= MOST_FILES) this.isFull = true;
    else this.files.push({ file, name });
  }
}

function tellLeftOut(app, { files, hidden, isFull }) {
  if (hidden > 0) app.tell(tn("hidden_left_out", hidden));
  if (isFull) app.tell(t("too_many_files", { n: MOST_FILES }), { isProblem: true });
  return files;
}

async function droppedFiles(transfer) {
  // Before anything is awaited: the browser forgets the items after that.
  const entries = [...transfer.items].filter((item) => item.kind === "file")
    .map((item) => ({ entry: item.webkitGetAsEntry?.(), file: item.getAsFile() }));
  const found = new FoundFiles();
  for (const { entry, file } of entries) {
    if (entry?.isDirectory) await readFolder(entry, found);
    else if (file) found.add(file, file.name);
  }
  return found;
}

async function readFolder(folder, found) {
  if (isHidden(folder.name)) {
    found.hidden += 1;
    return;
  }
  const reader = folder.createReader();
  for (;;) {
    // Each call gives some of the entries, the last one none.
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (entries.length === 0 || found.isFull) return;
    for (const entry of entries) {
      if (entry.isDirectory) await readFolder(entry, found);
      else found.add(await new Promise((resolve, reject) => entry.file(resolve, reject)), entry.fullPath.replace(/^\//, ""));
    }
  }
}
