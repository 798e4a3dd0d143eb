/**
 * Uploads: two at once, each in one request that goes on where the last one ended, however it ended. When all files of a
 * drop are there, the drop is sent or shared.
 * @module
 */

import { loadList, randomId } from "./actions.js";
import { apiPath, pathOf } from "./api_client.js";
import { t, tn } from "./texts.js";

const AT_ONCE = 2;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
/** The bars move at most so often. */
const SHOW_EVERY_MS = 100;
/** Answers that another attempt would not change. A wrong offset (409) is asked for again. */
const FINAL = new Set([400, 401, 403, 404, 411, 413, 507]);

/** The uploads of this page. */
export class UploadQueue {
  #waiting = [];
  #running = new Set();
  /** What is said when a drop is shared or sent, by its id. */
  #doneWords = new Map();

  /** @param {import("./main.js").App} app */
  constructor(app) {
    this.app = app;
    addEventListener("beforeunload", (event) => {
      if (this.#running.size > 0) event.preventDefault();
    });
  }

  /** Sends files to a user or a room, with words before them. */
  send(files, to, text) {
    this.#add(files, to, (drop) => this.app.api.post(`${pathOf("uploads", drop)}/send`, { to, text: text || undefined }), t("sent_to", { name: to }));
  }

  /** Shares files with everybody. */
  share(files) {
    this.#add(files, null, (drop) => this.app.api.post(`${pathOf("uploads", drop)}/share`), tn("shared", files.length));
  }

  /** Ends an upload; what came of it so far is dropped with its drop. */
  cancel(key) {
    const job = [...this.#waiting, ...this.#running].find((other) => other.key === key);
    if (!job) return this.app.store.dispatch({ type: "upload_gone", key });
    job.isCancelled = true;
    job.request?.abort();
    job.wake?.();
    this.#waiting = this.#waiting.filter((other) => other !== job);
    this.app.store.dispatch({ type: "upload_gone", key });
    job.drop.files -= 1;
    this.#settle(job.drop);
  }

  /** Follows what the node does with a drop: it reads all of it before others can. */
  handleDrop({ drop, state, why }) {
    const isOver = state === "done" || state === "failed";
    for (const upload of this.app.store.state.uploads.values()) {
      if (upload.drop === drop && upload.state !== "done") this.#show({ key: upload.key, state: isOver ? state : "preparing", why });
    }
    const words = this.#doneWords.get(drop);
    if (!isOver || words === undefined) return;
    this.#doneWords.delete(drop);
    this.app.tell(state === "done" ? words : why, { isProblem: state === "failed" });
    for (const list of ["sends", "shares"]) loadList(this.app, list).catch(() => {});
  }

  /** Removes those that ended from the list. */
  clear() {
    for (const { key, state } of this.app.store.state.uploads.values()) {
      if (state !== "waiting" && state !== "running") this.app.store.dispatch({ type: "upload_gone", key });
    }
  }

  #add(files, to, finish, doneWords) {
    const drop = { id: randomId(), files: files.length, done: 0, finish, doneWords, to };
    for (const { file, name } of files) {
      const key = `${drop.id}/${name}`;
      this.#waiting.push({ key, drop, file, name, isCancelled: false });
      this.#show({ key, drop: drop.id, name, to, size: file.size, sent: 0, state: "waiting" });
    }
    this.#next();
  }

  #show(upload) {
    this.app.store.dispatch({ type: "upload", upload });
  }

  #next() {
    while (this.#running.size < AT_ONCE && this.#waiting.length > 0) {
      const job = this.#waiting.shift();
      this.#running.add(job);
      this.#run(job).finally(() => {
        this.#running.delete(job);
        this.#next();
      });
    }
  }

  async #run(job) {
    for (let attempt = 0; !job.isCancelled; attempt += 1) {
      const outcome = await this.#attempt(job);
      if (job.isCancelled) return;
      if (outcome.isDone) {
        this.#show({ key: job.key, sent: job.file.size, state: "preparing" });
        job.drop.done += 1;
        return this.#settle(job.drop);
      }
      if (outcome.isFinal) {
        this.#show({ key: job.key, state: "failed", why: outcome.why });
        return;
      }
      if (outcome.hasMoved) attempt = 0;
      this.#show({ key: job.key, state: "retrying" });
      await pause(job, Math.min(FIRST_WAIT_MS * 2 ** attempt, LONGEST_WAIT_MS));
    }
  }

  /** Asks how far the file is, and sends the rest. */
  async #attempt(job) {
    const path = `/uploads${pathOf(job.drop.id, job.name)}`;
    try {
      const { offset, complete } = await this.app.api.get(path);
      if (complete) return { isDone: true };
      return await this.#put(job, path, offset);
    } catch (why) {
      return { isFinal: FINAL.has(why.status), why: why.message };
    }
  }

  /** Sends by XMLHttpRequest: `fetch` doesn't tell how much of a body has left. */
  #put(job, path, offset) {
    return new Promise((resolve) => {
      const request = new XMLHttpRequest();
      let [last, shownAt] = [offset, 0];
      job.request = request;
      const show = (sent) => {
        last = sent;
        if (performance.now() - shownAt < SHOW_EVERY_MS) return;
        shownAt = performance.now();
        this.#show({ key: job.key, sent, state: "running", since: job.since ??= { time: Date.now(), sent: offset } });
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
      request.open("PUT", apiPath(path));
      for (const [name, value] of Object.entries(this.app.api.headers())) request.setRequestHeader(name, value);
      if (job.file.size > 0) {
        request.setRequestHeader("Content-Range", `bytes ${offset}-${job.file.size - 1}/${job.file.size}`);
      }
      request.send(job.file.slice(offset));
    });
  }

  /** Sends or shares a drop of which all files are there. */
  async #settle(drop) {
    if (drop.files === 0 || drop.done < drop.files) return;
    this.#doneWords.set(drop.id, drop.doneWords);
    try {
      await drop.finish(drop.id);
    } catch (why) {
      this.handleDrop({ drop: drop.id, state: "failed", why: why.message });
    }
  }
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
