/**
 * Uploads: two at once, each in one request that goes on where the last one ended, however it ended. When all files of a
 * drop are there, the drop is sent or shared: without those that were refused or cancelled. Words that were to go with
 * it and don't are given back.
 * @module
 */

import { loadList, randomId } from "./actions.js";
import { apiPath, pathOf } from "./api_client.js";
import { withFiles } from "./file_names.js";
import { safeName } from "./format.js";
import { t, tn } from "./texts.js";

const AT_ONCE = 2;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
/** The bars move at most so often. */
const SHOW_EVERY_MS = 100;
/** The letters of a file's name of which a toast tells. */
const LONGEST_TOLD = 60;
/** Answers that another attempt would not change. A wrong offset (409) is asked for again. */
const FINAL = new Set([400, 401, 403, 404, 411, 413, 507]);
const ENDED = new Set(["done", "failed", "unknown"]);

/**
 * Files that go together. `left` counts those whose upload hasn't ended, `arrived` those that are at the node.
 * @typedef {{id: string, to: string|null, text: string, left: number, arrived: number, refused: number,
 *   finish: (id: string) => Promise<void>, doneWords: (count: number) => string}} Drop
 * @typedef {{key: string, path: string, drop: Drop, file: File, name: string, isCancelled: boolean, hasArrived: boolean,
 *   abort: AbortController, request?: XMLHttpRequest, wake?: () => void}} Job
 */

/** The uploads of this page. */
export class UploadQueue {
  /** @type {Job[]} */
  #waiting = [];
  /** @type {Set<Job>} */
  #running = new Set();
  /** Those that can be cancelled, by their key. @type {Map<string, Job>} */
  #jobs = new Map();
  /** Drops that the node reads, by their id. @type {Map<string, Drop>} */
  #handed = new Map();
  #isStopped = false;

  /** @param {import("./main.js").App} app */
  constructor(app) {
    this.app = app;
    addEventListener("beforeunload", (event) => {
      if (this.#running.size > 0 && !this.#isStopped) event.preventDefault();
    });
  }

  /** Sends files to a user or a room, with words before them. */
  send(files, to, text) {
    const finish = (drop) => this.app.api.post(`${pathOf("uploads", drop)}/send`, { to, text: text || undefined });
    this.#add(files, { to, text, finish, doneWords: () => t("sent_to", { name: to }) });
  }

  /** Shares files with everybody. */
  share(files) {
    const finish = (drop) => this.app.api.post(`${pathOf("uploads", drop)}/share`);
    this.#add(files, { to: null, text: "", finish, doneWords: (count) => tn("shared", count) });
  }

  /** Takes a file out of its drop, as long as the node hasn't got that whole. */
  async cancel(key) {
    const job = this.#jobs.get(key);
    if (!job || job.isCancelled) return;
    job.isCancelled = true;
    if (job.hasArrived) return this.#takeOut(job);
    this.app.store.dispatch({ type: "upload_gone", key });
    job.abort.abort();
    job.request?.abort();
    job.wake?.();
    if (this.#running.has(job)) return;
    this.#waiting = this.#waiting.filter((other) => other !== job);
    this.#end(job);
  }

  /** Ends all at once: the session is over. */
  stop() {
    this.#isStopped = true;
    this.#waiting = [];
    for (const job of this.#running) {
      job.isCancelled = true;
      job.abort.abort();
      job.request?.abort();
      job.wake?.();
    }
  }

  /** Follows what the node does with a drop: it reads all of it before others can. */
  handleDrop({ drop: id, state, why }) {
    const drop = this.#handed.get(id);
    if (!drop || (state !== "done" && state !== "failed")) return;
    this.#handed.delete(id);
    for (const shown of ["preparing", "unknown"]) this.#showAll(id, shown, { state, why });
    this.app.tell(state === "done" ? drop.doneWords(drop.arrived) : why, { isProblem: state === "failed" });
    if (state === "failed") this.#giveWordsBack(drop);
    for (const list of ["sends", "shares"]) loadList(this.app, list).catch(() => {});
  }

  /** Notes that events were missed: the end of a drop may be among them. */
  handleResync() {
    for (const id of this.#handed.keys()) this.#showAll(id, "preparing", { state: "unknown" });
  }

  /** Removes those that ended from the list. */
  clear() {
    for (const { key, state } of this.app.store.state.uploads.values()) {
      if (ENDED.has(state)) this.app.store.dispatch({ type: "upload_gone", key });
    }
  }

  #add(files, destination) {
    // One of two files of a name would take the place of the other.
    const named = withFiles([], files);
    if (named.length === 0) return;
    const drop = { id: randomId(), left: named.length, arrived: 0, refused: 0, ...destination };
    for (const { file, name } of named) {
      const key = `${drop.id}/${name}`;
      const job = { key, path: `/uploads${pathOf(drop.id, name)}`, drop, file, name, isCancelled: false, hasArrived: false, abort: new AbortController() };
      this.#waiting.push(job);
      this.#jobs.set(key, job);
      this.app.store.dispatch({ type: "upload", upload: { key, drop: drop.id, name, to: drop.to, size: file.size, sent: 0, state: "waiting" } });
    }
    this.#next();
  }

  #show(key, change) {
    this.app.store.dispatch({ type: "upload_change", key, change });
  }

  /** Changes the files of a drop that are in one state. */
  #showAll(drop, state, change) {
    for (const upload of this.app.store.state.uploads.values()) {
      if (upload.drop === drop && upload.state === state) this.#show(upload.key, change);
    }
  }

  #next() {
    while (this.#running.size < AT_ONCE && this.#waiting.length > 0) {
      const job = this.#waiting.shift();
      this.#running.add(job);
      this.#run(job).finally(() => {
        this.#running.delete(job);
        if (this.#isStopped) return;
        this.#end(job);
        this.#next();
      });
    }
  }

  async #run(job) {
    for (let attempt = 0; !job.isCancelled; attempt += 1) {
      const outcome = await this.#attempt(job);
      if (job.isCancelled) break;
      if (outcome.isDone) return this.#noteArrival(job);
      if (outcome.isFinal) return this.#noteRefusal(job, outcome.why);
      if (outcome.hasMoved) attempt = 0;
      this.#show(job.key, { state: "retrying" });
      await pause(job, Math.min(FIRST_WAIT_MS * 2 ** attempt, LONGEST_WAIT_MS));
    }
    if (!this.#isStopped) await this.#discard(job);
  }

  #noteArrival(job) {
    job.hasArrived = true;
    job.drop.arrived += 1;
    this.#show(job.key, { sent: job.file.size, state: "uploaded" });
  }

  async #noteRefusal(job, why) {
    job.drop.refused += 1;
    this.#show(job.key, { state: "failed", why });
    if (job.drop.refused === 1) this.app.tell(t("file_refused", { name: shortName(job.name), why }), { isProblem: true });
    await this.#discard(job);
  }

  /** Removes what the node has of a file, however long it takes to reach it: a drop with a part in it isn't complete. */
  async #discard(job) {
    for (let attempt = 0; !this.#isStopped; attempt += 1) {
      try {
        return await this.app.api.delete(job.path);
      } catch (why) {
        if (FINAL.has(why.status)) return;
      }
      await pause({}, Math.min(FIRST_WAIT_MS * 2 ** attempt, LONGEST_WAIT_MS));
    }
  }

  /** Takes a file back that is at the node; the drop waits for that. */
  async #takeOut(job) {
    job.drop.left += 1;
    const isOut = await this.app.attempt(async () => {
      await this.app.api.delete(job.path);
      return true;
    });
    if (isOut) {
      job.drop.arrived -= 1;
      this.app.store.dispatch({ type: "upload_gone", key: job.key });
    } else job.isCancelled = false;
    this.#end(job);
  }

  /** Notes that the upload of a file ended; a drop of which all ended goes on its way. */
  #end({ key, drop, hasArrived, isCancelled }) {
    if (!hasArrived || isCancelled) this.#jobs.delete(key);
    drop.left -= 1;
    if (drop.left === 0) this.#settle(drop);
  }

  /** Asks how far the file is, and sends the rest. */
  async #attempt(job) {
    try {
      const { offset, complete } = await this.app.api.get(job.path, { signal: job.abort.signal });
      if (complete || job.isCancelled) return { isDone: complete };
      if (!(await isReadable(job.file, offset))) return { isFinal: true, why: t("file_unreadable") };
      if (job.isCancelled) return {};
      return await this.#put(job, offset);
    } catch (why) {
      return { isFinal: FINAL.has(why.status), why: why.message };
    }
  }

  /** Sends by XMLHttpRequest: `fetch` doesn't tell how much of a body has left. */
  #put(job, offset) {
    return new Promise((resolve) => {
      const request = new XMLHttpRequest();
      let [last, shownAt] = [offset, 0];
      job.request = request;
      const show = (sent) => {
        last = sent;
        if (performance.now() - shownAt < SHOW_EVERY_MS) return;
        shownAt = performance.now();
        this.#show(job.key, { sent, state: "running", since: job.since ??= { time: Date.now(), sent: offset } });
      };
      show(offset);
      request.upload.addEventListener("progress", (event) => show(offset + event.loaded));
      request.addEventListener("load", () => {
        const isDone = request.status === 201;
        resolve(isDone ? { isDone } : { isFinal: FINAL.has(request.status), why: errorWords(request), hasMoved: last > offset });
      });
      for (const end of ["error", "abort", "timeout"]) {
        request.addEventListener(end, () => resolve({ hasMoved: last > offset, why: t("unreachable") }));
      }
      request.open("PUT", apiPath(job.path));
      for (const [name, value] of Object.entries(this.app.api.headers())) request.setRequestHeader(name, value);
      if (job.file.size > 0) {
        request.setRequestHeader("Content-Range", `bytes ${offset}-${job.file.size - 1}/${job.file.size}`);
      }
      request.send(job.file.slice(offset));
    });
  }

  /** Sends or shares what is there of a drop. */
  async #settle(drop) {
    if (drop.refused > 1) this.app.tell(tn("files_refused", drop.refused), { isProblem: true });
    if (drop.arrived === 0) return this.#giveWordsBack(drop);
    for (const [key, job] of this.#jobs) if (job.drop === drop) this.#jobs.delete(key);
    this.#handed.set(drop.id, drop);
    this.#showAll(drop.id, "uploaded", { state: "preparing" });
    try {
      await this.#handOver(drop);
    } catch (why) {
      // Without an answer the node may have it: its events tell.
      if (why.status === 0) this.#showAll(drop.id, "preparing", { state: "unknown" });
      else this.handleDrop({ drop: drop.id, state: "failed", why: why.message });
    }
  }

  async #handOver(drop) {
    for (;;) {
      try {
        return await drop.finish(drop.id);
      } catch (why) {
        // The node reads as many as it can at once: this one has its turn later.
        if (why.status !== 429 || this.#isStopped) throw why;
        await pause({}, LONGEST_WAIT_MS);
      }
    }
  }

  #giveWordsBack({ to, text }) {
    if (text) this.app.store.dispatch({ type: "words_back", name: to, text });
  }
}

/** Returns the name of a file in few words: one that is refused may be so for its length. */
function shortName(name) {
  const own = [...safeName(name.split("/").at(-1))];
  return own.length > LONGEST_TOLD ? `${own.slice(0, LONGEST_TOLD).join("")}…` : own.join("");
}

/** A file that was moved, changed or removed since it was chosen can't be read, however often it is tried. */
function isReadable(file, offset) {
  return file.slice(offset, offset + 1).arrayBuffer().then(() => true, () => false);
}

function errorWords(request) {
  try {
    return JSON.parse(request.responseText).error.message;
  } catch {
    return `${request.status}`;
  }
}

/** Waits, or until there is a reason to hope: the network or the person is back. */
function pause(job, time) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      document.removeEventListener("visibilitychange", done);
      resolve();
    };
    const timer = setTimeout(done, time);
    job.wake = done;
    addEventListener("online", done);
    document.addEventListener("visibilitychange", done);
  });
}
