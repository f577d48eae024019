"use strict";

const me = document.body.dataset.user;
const messages = document.getElementById("messages");
const state = document.getElementById("state");
const composer = document.getElementById("composer");
const input = document.getElementById("message");

let source;
let lastEventId = "";

// The browser opens the stream again by itself, and names the last message that it has seen:
// what was said in the meantime arrives then, in order and once.
function open() {
  source = new EventSource(`${document.body.dataset.stream}?lastEventId=${encodeURIComponent(lastEventId)}`);
  source.onopen = () => show("live", "Live");
  source.onerror = () =>
    source.readyState === EventSource.CLOSED
      ? show("closed", "Disconnected, please reload")
      : show("connecting", "Reconnecting");
  source.onmessage = (event) => {
    lastEventId = event.lastEventId;
    add(JSON.parse(event.data));
  };
  // The server says so when it cannot give everything that this page missed.
  source.addEventListener("stream-reset", () => note("Some messages may be missing here."));
}

open();
// A browser may keep a page that was left, for its Back button, and with it the connection.
addEventListener("pagehide", () => source.close());
addEventListener("pageshow", (event) => event.persisted && open());

composer.addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = new FormData(composer);
  const text = input.value;
  if (!text.trim()) return;
  input.value = "";
  input.focus();
  try {
    const answer = await fetch(composer.action, { method: "POST", body });
    if (!answer.ok) throw new Error(answer.statusText);
  } catch {
    input.value = input.value || text;
    note("That message was not sent. Please try again.");
  }
});

function show(name, text) {
  state.dataset.state = name;
  state.textContent = text;
}

function note(text) {
  append(element("p", "note", text));
}

/** Adds one message. Only textContent is set, so nobody can send markup to the others. */
function add({ user, text, at }) {
  const time = new Date(at);
  const message = element("article", user === me ? "message mine" : "message");
  if (messages.lastElementChild?.dataset.user === user) message.classList.add("again");
  message.dataset.user = user;
  message.style.setProperty("--hue", hue(user));
  const stamp = element("time", "", time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  stamp.dateTime = at;
  stamp.title = time.toLocaleString();
  message.append(element("span", "user", user), element("span", "text", text), stamp);
  append(message);
}

/** Appends to the log, and follows it unless the reader has scrolled up to read. */
function append(child) {
  const end = messages.scrollHeight - messages.clientHeight;
  const follows = messages.scrollTop > end - 80;
  document.getElementById("empty")?.remove();
  messages.append(child);
  if (follows || child.classList.contains("mine")) messages.scrollTop = messages.scrollHeight;
}

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/** The same colour for the same name on every page. */
function hue(name) {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 360;
  return sum;
}
