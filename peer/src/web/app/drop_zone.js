/**
 * Files that are dropped on a part of the page, folders with all that is in them.
 * @module
 */

import { h } from "./elements.js";

/** The files that one drop may have. */
const MOST_FILES = 5000;

/**
 * Takes the files that are dropped on `element`.
 * @param {HTMLElement} element
 * @param {string} words - Shown while files are held over it.
 * @param {(files: Array<{file: File, name: string}>) => void} onFiles
 * @returns {() => void} a function that ends it
 */
export function watchDrops(element, words, onFiles) {
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
    drop: async (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      show(-depth);
      onFiles(await droppedFiles(event.dataTransfer));
    },
  };
  for (const [name, handler] of Object.entries(handlers)) element.addEventListener(name, handler);
  return () => Object.entries(handlers).forEach(([name, handler]) => element.removeEventListener(name, handler));
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

async function droppedFiles(transfer) {
  // Before anything is awaited: the browser forgets the items after that.
  const entries = [...transfer.items].filter((item) => item.kind === "file")
    .map((item) => ({ entry: item.webkitGetAsEntry?.(), file: item.getAsFile() }));
  const files = [];
  for (const { entry, file } of entries) {
    if (entry?.isDirectory) await readFolder(entry, files);
    else if (file) files.push({ file, name: file.name });
  }
  return files.slice(0, MOST_FILES);
}

async function readFolder(folder, files) {
  const reader = folder.createReader();
  for (;;) {
    // Each call gives some of the entries, the last one none.
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (entries.length === 0 || files.length >= MOST_FILES) return;
    for (const entry of entries) {
      if (entry.isDirectory) await readFolder(entry, files);
      else {
        const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
        files.push({ file, name: entry.fullPath.replace(/^\//, "") });
      }
    }
  }
}
