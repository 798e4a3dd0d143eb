/**
 * Shared names as folders and files. Pure.
 * @module
 */

/**
 * Returns the rows of one folder: its folders with what is in them, then its files.
 * @param {Array<{name: string, size: number, user?: string}>} files
 * @param {string} folder - Without a slash at its end; empty for the top.
 */
export function folderRows(files, folder) {
  const prefix = folder ? `${folder}/` : "";
  const folders = new Map();
  const rows = [];
  for (const file of files) {
    if (!file.name.startsWith(prefix)) continue;
    const rest = file.name.slice(prefix.length);
    const slash = rest.indexOf("/");
    if (slash < 0) {
      rows.push({ kind: "file", key: `${file.user ?? ""}/${file.name}`, shown: rest, ...file });
      continue;
    }
    const name = prefix + rest.slice(0, slash);
    const known = folders.get(name) ?? { kind: "folder", key: `/${name}`, name, shown: rest.slice(0, slash), size: 0, count: 0 };
    known.size += file.size;
    known.count += 1;
    folders.set(name, known);
  }
  const byName = (a, b) => a.shown.localeCompare(b.shown, undefined, { numeric: true });
  return [...[...folders.values()].sort(byName), ...rows.sort(byName)];
}

/** Returns the files whose names have all the words, as rows with their whole names. */
export function matchingRows(files, words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  return files.filter(({ name }) => wanted.every((word) => name.toLowerCase().includes(word)))
    .map((file) => ({ kind: "file", key: `${file.user ?? file.audience ?? ""}/${file.name}`, shown: file.name, ...file }));
}

/** Returns the folders above one, from the top, with their names. */
export function folderPath(folder) {
  const parts = folder ? folder.split("/") : [];
  return parts.map((name, at) => ({ name, path: parts.slice(0, at + 1).join("/") }));
}
