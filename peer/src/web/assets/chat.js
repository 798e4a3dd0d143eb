// The conversation below the files: live by a stream, and by asking again where none can be had. Without this script
// the form and the page do the same.
const section = document.querySelector(".talk");
const list = section.querySelector(".said");
const form = section.querySelector("form");
const state = section.querySelector(".state");
const button = form.querySelector("button");
const texts = section.dataset;
const title = document.title;
const ASK_MS = 5000;
// Answers are shown as they come: in the language of this page.
const headers = { Accept: "application/json", "Accept-Language": document.documentElement.lang };

let last = Number(texts.last);
let source;
let timer;
let unseen = 0;
let tried = "";

const hour = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "short", timeStyle: "short" });
for (const time of list.querySelectorAll("time")) time.textContent = hour.format(Number(time.dataset.at));

const element = (name, className, text) => {
  const made = document.createElement(name);
  made.className = className;
  // Never as HTML, whatever it holds.
  made.textContent = text;
  return made;
};

const show = (message) => {
  if (message.seq <= last) return;
  last = message.seq;
  const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  const row = element("li", message.answer ? "theirs" : "ours", "");
  const by = element("p", "by", "");
  by.append(element("b", "", message.answer ? texts.owner : texts.you), " ", element("time", "", hour.format(message.ts)));
  const text = element("p", "text", message.text);
  text.dir = "auto";
  row.append(by, text);
  list.append(row);
  if (isAtEnd || !message.answer) list.scrollTop = list.scrollHeight;
  if (message.answer && document.hidden) document.title = `(${unseen += 1}) ${title}`;
};

const say = (text) => { state.textContent = text; };

const end = () => {
  source?.close();
  clearTimeout(timer);
  say(texts.ended);
  for (const field of form.elements) field.disabled = true;
};

// Shows what came meanwhile. Returns whether there is anything to wait for.
const catchUp = async () => {
  try {
    const answer = await fetch(`chat?after=${last}`, { headers, cache: "no-store" });
    if (answer.status === 401 || answer.status === 404) {
      end();
      return false;
    }
    if (answer.ok) {
      for (const message of (await answer.json()).messages) show(message);
      say("");
    }
  } catch {
    say(texts.lost);
  }
  return true;
};

// Without a stream; then one is tried again.
const ask = async () => {
  if (await catchUp()) timer = setTimeout(listen, ASK_MS);
};

const listen = () => {
  clearTimeout(timer);
  source = new EventSource(`chat?after=${last}`);
  source.onopen = () => say("");
  source.onmessage = (event) => show(JSON.parse(event.data));
  source.addEventListener("end", end);
  // As many windows are open as may have a stream: this one has its own again when somebody looks at it.
  source.addEventListener("replaced", () => {
    source.close();
    say(texts.paused);
    addEventListener("focus", listen, { once: true });
  });
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) ask();
    else say(texts.lost);
  };
};

const newId = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = form.elements.text.value;
  if (!text.trim() || button.disabled) return;
  // The same text again is the same message: it may have arrived although nothing was heard of it.
  if (tried && tried !== text) form.elements.id.value = newId();
  tried = text;
  button.disabled = true;
  say("");
  try {
    const body = new URLSearchParams(new FormData(form));
    const answer = await fetch("chat", { method: "POST", body, headers });
    if (answer.status === 401 || answer.status === 404) return end();
    if (!answer.ok) {
      say(await answer.text());
    } else {
      // The stream brings it in its place among the others.
      if (source.readyState !== EventSource.OPEN) await catchUp();
      // What was typed meanwhile is the next message.
      const typed = form.elements.text.value;
      if (typed.startsWith(text)) form.elements.text.value = typed.slice(text.length).trimStart();
      form.elements.id.value = newId();
      tried = "";
    }
  } catch {
    say(texts.failed);
  }
  button.disabled = false;
  form.elements.text.focus();
});

form.elements.text.addEventListener("keydown", (event) => {
  // On a phone, Enter is the only way to a new line.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || !matchMedia("(pointer: fine)").matches) return;
  event.preventDefault();
  form.requestSubmit();
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unseen = 0;
  document.title = title;
});

list.scrollTop = list.scrollHeight;
listen();
