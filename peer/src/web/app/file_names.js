/**
 * The names of files that a person chose, dropped or pasted. Pure.
 * @module
 */

/** @typedef {{file: File, name: string}} ChosenFile */

/** True for a name that begins with a dot, or lies in a folder that does: no node takes it. */
export const isHidden = (name) => name.split("/").some((part) => part.startsWith("."));

/** Returns a name with a number before its extension. */
function numbered(name, number) {
  const [, stem, extension] = name.match(/^(.*?[^/])(\.[^./]{0,15})?$/s) ?? [null, name, ""];
  return `${stem} (${number})${extension ?? ""}`;
}

const isSame = (a, b) => a.size === b.size && a.lastModified === b.lastModified;

/**
 * Returns files with further ones. Another file of a name that is taken gets a number: pasted pictures are all called
 * alike. The same file stays once.
 * @param {ChosenFile[]} files
 * @param {ChosenFile[]} added
 */
export function withFiles(files, added) {
  const known = new Map(files.map((entry) => [entry.name, entry]));
  for (const { file, name } of added) {
    let [free, number] = [name, 0];
    while (known.has(free) && !isSame(known.get(free).file, file)) free = numbered(name, (number += 1));
    if (!known.has(free)) known.set(free, { file, name: free });
  }
  return [...known.values()];
}
