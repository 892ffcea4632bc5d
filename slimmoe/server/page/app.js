// The page of slimmoe serve: no library, nothing from elsewhere. Texts are only ever set as text, never as markup.
"use strict";

const $ = (id) => document.getElementById(id);
const RIGHT_TO_LEFT = new Set(["ar", "fa", "he", "ur"]);
const PAUSE = 450; // milliseconds without a key until a translation begins
const STATE_EVERY = 5000;
const ALTERNATIVES = 3; // of texts of at most so many characters:
const SHORT = 400;
let state = null;
let detected = "";
let running = null; // the AbortController of the translation under way
let timer = 0;

const stored = (where, name) => { try { return where.getItem(name) || ""; } catch { return ""; } };
const store = (where, name, value) => { try { where.setItem(name, value); } catch { /* a browser that keeps nothing */ } };

async function ask(path, options = {}) {
  const key = stored(sessionStorage, "key");
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const response = await fetch(path, { ...options, headers });
  if (response.status === 403 && !$("ask").open && await newKey()) return ask(path, options);
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error || `It failed (${response.status}).`);
  return response;
}

function newKey() {
  return new Promise((resolve) => {
    $("ask").addEventListener("close", () => {
      store(sessionStorage, "key", $("key").value);
      resolve(Boolean($("key").value));
    }, { once: true });
    $("key").value = "";
    $("ask").showModal();
  });
}

// The objects of a stream of server-sent events, as they come.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const found = JSON.parse(part.replace(/^data: /, ""));
      if (found.error) throw new Error(found.error);
      yield found;
    }
  }
}

const model = () => state.models.find((each) => each.name === $("model").value) || null;
const pairs = () => (model() ? model().pairs : state.models.flatMap((each) => each.pairs));

function fill(select, codes, first) {
  const before = select.value;
  select.replaceChildren(...(first ? [new Option(first, "auto")] : []), ...codes.map((code) => new Option(state.languages[code], code)));
  if ([...select.options].some((option) => option.value === before)) select.value = before;
}

function showLanguages() {
  const sorted = (codes) => Object.keys(state.languages).filter((code) => codes.has(code));
  fill($("source"), sorted(new Set(pairs().map(([source]) => source))), "Automatic");
  const source = $("source").value;
  const fitting = pairs().filter((pair) => source === "auto" || pair[0] === source);
  fill($("target"), sorted(new Set(fitting.map((pair) => pair[1]))));
  const back = pairs().some((pair) => pair[0] === $("target").value && (source === "auto" || pair[1] === source));
  $("swap").disabled = !back;
  direct($("result"), $("target").value);
  direct($("text"), source === "auto" ? detected : source);
}

function direct(element, code) {
  element.lang = code || "";
  element.dir = code ? (RIGHT_TO_LEFT.has(code.split("-")[0]) ? "rtl" : "ltr") : "auto";
}

function tell(sentence, bad = false) {
  $("told").textContent = sentence;
  $("told").classList.toggle("bad", bad);
}

function showCount() {
  const length = [...$("text").value].length;
  $("count").textContent = length ? `${length.toLocaleString("en")} of ${state.characters.toLocaleString("en")} characters` : "";
  $("count").classList.toggle("bad", length > state.characters);
  $("clear").hidden = !length;
}

// Alternatives for a short text; a click puts one into the translation's place.
async function showOthers() {
  const text = $("text").value;
  const source = $("source").value === "auto" ? detected : $("source").value;
  $("others").disabled = true;
  try {
    const body = { q: text, source, target: $("target").value, alternatives: ALTERNATIVES };
    const response = await ask("translate", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    const found = (await response.json()).alternatives;
    if (text !== $("text").value) return;
    if (!found.length) tell("There are no others.");
    $("alternatives").replaceChildren(...found.map((each) => {
      const row = document.createElement("li");
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: each, lang: $("target").value, dir: "auto" });
      button.addEventListener("click", () => {
        [$("result").textContent, button.textContent] = [button.textContent, $("result").textContent];
      });
      row.append(button);
      return row;
    }));
    $("alternatives").hidden = !found.length;
    $("others").hidden = true;
  } catch (error) {
    tell(error.message, true);
  } finally {
    $("others").disabled = false;
  }
}

async function translate() {
  clearTimeout(timer);
  $("others").hidden = $("alternatives").hidden = true;
  running?.abort();
  const mine = running = new AbortController();
  const text = $("text").value;
  showCount();
  if (!text.trim()) {
    $("result").textContent = "";
    $("result").classList.remove("busy", "old");
    $("copy").hidden = true;
    tell("");
    return;
  }
  $("result").classList.add("busy", "old");
  const draft = document.createElement("span"); // of the next sentence, as it is decoded
  let begun = false;
  const begin = () => {
    if (!begun) $("result").textContent = "";
    $("result").classList.remove("old");
    begun = true;
  };
  try {
    const body = { text, source: $("source").value, target: $("target").value, glossary: $("glossary").value, model: $("model").value };
    const response = await ask("page/translate", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: mine.signal,
    });
    for await (const piece of events(response)) {
      if (piece.draft !== undefined) {
        begin();
        draft.append(piece.draft);
        if (!draft.isConnected) $("result").append(draft);
      } else if (piece.text === undefined) {
        detected = piece.source;
        direct($("result"), piece.target);
        direct($("text"), piece.source);
        const name = state.languages[piece.source];
        tell(piece.source === piece.target ? `The text is in ${name} already` : piece.confidence === null ? "" : `from ${name}`);
      } else {
        begin();
        draft.remove(); // the sentence takes its place
        draft.replaceChildren();
        $("result").append(piece.text);
      }
    }
    begin();
    $("copy").hidden = false;
    $("others").hidden = text.length > SHORT;
    showState();
  } catch (error) {
    if (error.name === "AbortError") return;
    begin();
    tell(error.message, true);
  } finally {
    if (running === mine) $("result").classList.remove("busy");
  }
}

function soon() {
  showCount();
  clearTimeout(timer);
  timer = setTimeout(translate, PAUSE);
}

function swap() {
  if ($("swap").disabled) return;
  const [target, done] = [$("target").value, $("result").textContent];
  const source = $("source").value === "auto" ? detected || pairs().find((pair) => pair[0] === target)[1] : $("source").value;
  $("source").value = target;
  showLanguages();
  $("target").value = source;
  showLanguages();
  if (done) $("text").value = done;
  translate();
}

async function translateFile(file) {
  const row = document.createElement("li");
  const name = document.createElement("span");
  const end = document.createElement("span");
  const bar = document.createElement("progress");
  name.className = "name";
  name.textContent = file.name;
  end.className = "note";
  end.textContent = "0 %";
  bar.setAttribute("aria-label", `Translating ${file.name}`);
  bar.value = 0;
  row.append(name, end, bar);
  $("jobs").prepend(row);
  const form = new FormData();
  for (const id of ["source", "target", "glossary", "model"]) form.append(id, $(id).value);
  form.append("file", file);
  try {
    for await (const piece of events(await ask("page/document", { method: "POST", body: form }))) {
      if (piece.url) {
        const link = document.createElement("a");
        link.href = piece.url;
        link.download = piece.name;
        link.textContent = "Download";
        name.textContent = piece.name;
        end.replaceWith(link);
        bar.remove();
      } else {
        bar.value = piece.share;
        end.textContent = `${Math.floor(100 * piece.share)} %`;
      }
    }
  } catch (error) {
    const said = document.createElement("span");
    said.className = "bad";
    said.setAttribute("role", "alert");
    said.textContent = error.message;
    end.remove();
    bar.replaceWith(said);
  }
  showState();
}

function entry(name, value) {
  const row = document.createElement("div");
  for (const [kind, text] of [["dt", name], ["dd", value]]) row.append(Object.assign(document.createElement(kind), { textContent: text }));
  return row;
}

async function showState() {
  state = await (await ask("page/state")).json();
  const now = model() || state.models.find((each) => each.name === state.open.at(-1)) || state.models[0];
  const rows = state.models.length > 1 ? [] : [entry("Model", now.name)];
  rows.push(entry("Type", now.kind));
  if (now.cut) rows.push(entry("Experts cut", `${Math.round(100 * now.cut)} %`));
  rows.push(entry("Memory", `${Math.round(state.memory / 1e6).toLocaleString("en")} MB`));
  if (state.speed) rows.push(entry("Speed", `${Math.round(state.speed).toLocaleString("en")} tokens/s`));
  $("state").replaceChildren(...rows);
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function listen() {
  $("text").addEventListener("input", soon);
  $("glossary").addEventListener("input", soon);
  $("source").addEventListener("change", () => { showLanguages(); translate(); });
  $("target").addEventListener("change", () => { showLanguages(); translate(); });
  $("model").addEventListener("change", () => { showLanguages(); showState(); translate(); });
  $("swap").addEventListener("click", swap);
  $("clear").addEventListener("click", () => { $("text").value = ""; translate(); $("text").focus(); });
  $("copy").addEventListener("click", async () => {
    await navigator.clipboard.writeText($("result").textContent);
    tell("Copied");
  });
  $("others").addEventListener("click", showOthers);
  $("theme").addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    setTheme(theme);
    store(localStorage, "theme", theme);
  });
  $("file").addEventListener("change", () => {
    for (const file of $("file").files) translateFile(file);
    $("file").value = "";
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) translate();
    if (event.altKey && event.key.toLowerCase() === "s") { event.preventDefault(); swap(); }
  });
  const withFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (withFiles(event)) { event.preventDefault(); $("curtain").hidden = false; }
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("curtain").hidden = true; });
  addEventListener("drop", (event) => {
    if (!withFiles(event)) return;
    event.preventDefault();
    $("curtain").hidden = true;
    for (const file of event.dataTransfer.files) translateFile(file);
  });
}

async function begin() {
  setTheme(stored(localStorage, "theme"));
  await showState();
  $("file").accept = state.formats.join(",");
  const shown = ["Word", "PowerPoint", "OpenDocument", "EPUB", "HTML", "Markdown", "subtitles", "PO", "XLIFF", "JSON"];
  $("formats").textContent = `${shown.join(", ")} and more`;
  if (state.models.length > 1) {
    $("model").replaceChildren(new Option("Any model", ""), ...state.models.map((each) => new Option(each.name, each.name)));
    $("model").hidden = false;
  }
  showLanguages();
  listen();
  setInterval(() => { if (!document.hidden) showState().catch(() => tell("The server does not answer.", true)); }, STATE_EVERY);
  $("text").focus();
}

begin().catch((error) => tell(error.message, true));
