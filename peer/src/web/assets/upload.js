// Uploads: several at once, each in one request that goes on where the last one ended, however it ended.
const AT_ONCE = 2;
const LONGEST_WAIT_MS = 15000;

const drop = document.querySelector(".drop");
const list = document.querySelector(".uploads");
const texts = drop.dataset;
const queue = [];
// Those that haven't ended, by their key.
const going = new Map();
let running = 0;

const sizes = new Intl.NumberFormat(document.documentElement.lang, { maximumSignificantDigits: 3 });
const size = (bytes) => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; bytes >= 1000 && unit < units.length - 1; unit += 1) bytes /= 1000;
  return `${sizes.format(bytes)} ${units[unit]}`;
};

class Upload {
  constructor(file) {
    this.file = file;
    // The same file after a reload is the same upload.
    this.key = `${file.size}-${file.lastModified}-${file.webkitRelativePath || file.name}`;
    this.url = `in/${encodeURIComponent(file.name)}`;
    this.query = new URLSearchParams({ size: file.size, key: this.key });
    this.cancelled = false;
    this.aborter = new AbortController();
    this.wake = () => {};
  }

  show() {
    this.row = document.createElement("li");
    const name = document.createElement("span");
    name.textContent = this.file.name;
    this.button = document.createElement("button");
    this.button.type = "button";
    this.button.className = "quiet";
    this.button.textContent = texts.cancel;
    this.button.addEventListener("click", () => this.cancel());
    this.bar = document.createElement("progress");
    this.bar.max = Math.max(this.file.size, 1);
    this.bar.value = 0;
    this.bar.setAttribute("aria-label", this.file.name);
    this.state = document.createElement("span");
    this.state.className = "state";
    this.row.append(name, this.button, this.bar, this.state);
    list.append(this.row);
    this.say(texts.waiting);
  }

  say(text, failed = false) {
    this.state.textContent = text;
    this.state.classList.toggle("failed", failed);
  }

  cancel() {
    this.cancelled = true;
    // A row that ended may be of a file that was chosen again.
    if (going.get(this.key) === this) going.delete(this.key);
    this.aborter.abort();
    this.request?.abort();
    this.wake();
    this.row.remove();
  }

  async run() {
    for (let attempt = 0; !this.cancelled; attempt += 1) {
      const outcome = await this.attempt();
      if (this.cancelled) break;
      if (outcome.ended) return;
      if (outcome.progress) attempt = 0;
      this.say(texts.retrying);
      await this.pause(Math.min(500 * 2 ** attempt, LONGEST_WAIT_MS));
    }
    // What came of it so far isn't wanted.
    await fetch(`${this.url}?${this.query}`, { method: "DELETE" }).catch(() => {});
  }

  // Waits, or until there is a reason to hope: the network or the person is back.
  pause(time) {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        removeEventListener("online", done);
        document.removeEventListener("visibilitychange", done);
        resolve();
      };
      const timer = setTimeout(done, time);
      this.wake = done;
      addEventListener("online", done);
      document.addEventListener("visibilitychange", done);
    });
  }

  async attempt() {
    let known;
    try {
      const answer = await fetch(`${this.url}?${this.query}`, { cache: "no-store", signal: this.aborter.signal });
      if (!answer.ok) return this.refused(answer.status);
      known = await answer.json();
    } catch {
      return {};
    }
    if (this.cancelled) return {};
    if (known.hash) return this.finished(known);
    try {
      await this.file.slice(known.offset, known.offset + 1).arrayBuffer();
    } catch {
      return this.refuse(texts.unreadable);
    }
    return this.cancelled ? {} : this.send(known.offset);
  }

  send(offset) {
    return new Promise((resolve) => {
      const request = new XMLHttpRequest();
      this.request = request;
      let last = offset;
      const show = (sent) => {
        last = sent;
        this.bar.value = sent;
        this.say(`${texts.sending} · ${size(sent)} / ${size(this.file.size)}`);
      };
      show(offset);
      request.upload.addEventListener("progress", (event) => show(offset + event.loaded));
      request.addEventListener("load", () => {
        if (request.status === 201) resolve(this.finished(JSON.parse(request.responseText)));
        else resolve(this.refused(request.status));
      });
      for (const end of ["error", "abort", "timeout"]) {
        request.addEventListener(end, () => resolve({ progress: last > offset }));
      }
      request.open("PUT", this.url);
      request.setRequestHeader("Upload-Key", encodeURIComponent(this.key));
      if (this.file.size > 0) {
        request.setRequestHeader("Content-Range", `bytes ${offset}-${this.file.size - 1}/${this.file.size}`);
      }
      request.send(this.file.slice(offset));
    });
  }

  // Returns whether another attempt would end in the same way.
  refused(status) {
    const words = { 413: texts.quota, 507: texts.room, 400: texts.refused, 401: texts.ended }[status];
    return words ? this.refuse(words) : {};
  }

  refuse(words) {
    this.say(words, true);
    this.bar.remove();
    return { ended: true };
  }

  finished(placed) {
    this.bar.value = this.bar.max;
    this.say(`${texts.done}: ${placed.name} · ${size(placed.size)}`);
    const hash = document.createElement("code");
    hash.textContent = `BLAKE3 ${placed.hash}`;
    this.row.append(hash);
    this.button.remove();
    return { ended: true };
  }
}

const next = () => {
  while (running < AT_ONCE && queue.length > 0) {
    running += 1;
    const upload = queue.shift();
    upload.run().finally(() => {
      running -= 1;
      if (going.get(upload.key) === upload) going.delete(upload.key);
      next();
    });
  }
};

const add = (files) => {
  for (const file of files) {
    const upload = new Upload(file);
    // Two requests of the same upload would end each other.
    if (going.has(upload.key)) continue;
    going.set(upload.key, upload);
    upload.show();
    queue.push(upload);
  }
  next();
};

const input = drop.querySelector("input");
input.addEventListener("change", () => {
  add(input.files);
  input.value = "";
});
for (const name of ["dragenter", "dragover"]) {
  addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) {
  addEventListener(name, (event) => {
    event.preventDefault();
    if (name === "drop" || !event.relatedTarget) drop.classList.remove("over");
  });
}
addEventListener("drop", (event) => {
  const items = [...event.dataTransfer.items].filter(({ kind }) => kind === "file");
  // As a file, a folder has a name and nothing that can be read.
  const isFolder = items.map((item) => Boolean(item.webkitGetAsEntry?.()?.isDirectory));
  const files = items.map((item) => item.getAsFile());
  add(files.filter((file, at) => file && !isFolder[at]));
  for (const folder of files.filter((file, at) => file && isFolder[at])) {
    const upload = new Upload(folder);
    upload.show();
    upload.refuse(texts.unreadable);
  }
});
addEventListener("beforeunload", (event) => { if (running > 0) event.preventDefault(); });
