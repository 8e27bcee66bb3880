"use strict";
// The page of `smallvit serve`: pictures in; classes, attention and what a token sees out.
//
// Answers are kept with the picture that they are about, and only the selected picture's are drawn: so a late
// answer never stands under another picture. What the server or a file name says is only ever set as text.

// ---------------------------------------------------------------------------------------------- what is known

const MOST_PICTURES = 60; // Kept in the list; each holds its file in memory.
const MOST_EXPLANATIONS = 6; // Kept at once; one may be some megabytes.
const MOST_RETRIES = 3;
const LONGEST_WAIT = 60; // Seconds; a server that asks for more is not waited for.
const TOP = 5;

const state = {
  models: [],
  pictures: [], // The newest first.
  selected: null,
  nextId: 1,
  camera: null, // The stream while it runs.
  where: {
    model: null,
    layer: 0, // A number, or "rollout".
    head: "mean", // A number, or "mean".
    cell: { x: 0.5, y: 0.5 }, // The chosen cell by its middle, in parts of the picture: grids differ between layers.
    pinned: false, // Whether the attention from the chosen cell stays shown.
    focused: false, // … is shown while the keyboard's focus is on the canvas.
    hover: null, // The cell under the mouse.
    controller: null,
    drawn: null, // The explanation that is on the page.
  },
  explanations: new Map(),
};

const $ = (id) => document.getElementById(id);

/** An element with properties and children; text is set as text. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const percent = (part) =>
  part > 0 && part < 0.001 ? "< 0.1 %" : part < 1 && part > 0.999 ? "> 99.9 %" : `${(100 * part).toFixed(1)} %`;
const modelName = (id) => state.models.find((model) => model.id === id)?.name ?? id;
const sleep = (seconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("given up", "AbortError"));
    });
  });

// ------------------------------------------------------------------------------------------ talking to the server

/** What went wrong, in words for the reader. */
class Problem extends Error {}

const WORDS = {
  400: "The server could not make sense of this.",
  404: "The server does not know this model or picture. Reload the page to see what it serves now.",
  413: "This picture is too large for the server.",
  415: "This is not a picture that the server can read.",
  422: "The server could not read this picture.",
};

async function problemOf(response) {
  let said = "";
  try {
    said = String((await response.json()).error?.message ?? "");
  } catch (error) {
    if (error.name === "AbortError") throw error;
    // Not JSON: something between this page and the server answered. The status says enough.
  }
  const words = WORDS[response.status] ?? `The server answered with status ${response.status}.`;
  return new Problem(said ? `${words} It says: ${said}` : words);
}

/** Seconds from a Retry-After header; 2 where there is none that can be read. */
function retryAfter(response) {
  const seconds = Number.parseFloat(response.headers.get("Retry-After") ?? "");
  return Number.isFinite(seconds) && seconds >= 0 ? Math.max(seconds, 0.2) : 2;
}

/** Asks, and asks again while the server is busy; `waiting` is told about each wait, and with null of its end. */
async function ask(path, options = {}, waiting = () => {}) {
  for (let retry = 1; ; retry += 1) {
    let response;
    try {
      response = await fetch(path, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem("The server does not answer. Is smallvit serve still running?");
    }
    if (response.ok) return response;
    if (response.status !== 429 && response.status !== 503) throw await problemOf(response);
    const seconds = retryAfter(response);
    if (retry > MOST_RETRIES) throw new Problem(`The server is still busy after ${MOST_RETRIES + 1} requests.`);
    if (seconds > LONGEST_WAIT) throw new Problem(`The server is busy, and asks to come back in ${seconds} seconds.`);
    waiting(`The server is busy. Asking again in ${seconds} s (${retry} of ${MOST_RETRIES}).`);
    try {
      await sleep(seconds, options.signal);
    } finally {
      waiting(null);
    }
  }
}

/** The JSON of an answer. */
async function askJson(path, options, waiting) {
  const response = await ask(path, options, waiting);
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server's answer broke off or was not JSON.");
  }
}

const posted = (blob, signal) => ({
  method: "POST",
  body: blob,
  headers: { "Content-Type": blob.type.startsWith("image/") ? blob.type : "application/octet-stream" },
  signal,
});

// ------------------------------------------------------------------------------------------------ models, examples

async function loadModels() {
  $("reconnect").hidden = true;
  $("served").textContent = "Asking the server which models it has …";
  try {
    state.models = (await askJson("/v1/models", {}, (words) => words && ($("served").textContent = words))).models;
  } catch (error) {
    $("served").textContent = error instanceof Problem ? error.message : "The server's list of models is not as expected.";
    $("reconnect").hidden = false;
    return;
  }
  state.where.model = state.models[0]?.id ?? null;
  showModels();
  $("file").disabled = state.models.length === 0;
  $("camera-open").hidden = !(window.isSecureContext && navigator.mediaDevices?.getUserMedia);
  loadExamples();
}

function showModels() {
  const names = state.models.map((model) => model.name);
  const data = [...new Set(state.models.map((model) => model.data))];
  document.title = `${names.join(", ")} – smallvit`;
  $("served").textContent = names.length
    ? `${list(names)}, trained on ${list(data)}. Give a picture, and see what ${names.length > 1 ? "each" : "it"} takes it for, and where it looks.`
    : "The server has no model.";
  $("models").replaceChildren(...state.models.map(modelRow));
  $("models-scroll").hidden = names.length === 0;
  $("where-model").replaceChildren(...state.models.map((model) => make("option", { value: model.id, textContent: model.name })));
  $("where-model-box").hidden = names.length < 2;
}

function modelRow(model) {
  const size = `${model.image_size} × ${model.image_size} ${model.channels === 1 ? "grey" : "colour"}`;
  const has = [`${model.spt ? "shifted" : "plain"} patches`, model.lsa ? "locality self-attention" : "plain attention"];
  const number = (text) => make("td", { className: "number", textContent: text });
  return make("tr", {},
    make("th", { scope: "row", textContent: model.name }),
    make("td", { textContent: model.data }),
    number(model.classes.length),
    number(model.parameters.toLocaleString("en")),
    number(model.test_top1 === null || model.test_top1 === undefined ? "not known" : `${model.test_top1.toFixed(1)} %`),
    make("td", { textContent: size }),
    make("td", { textContent: has.join(", ") }));
}

/** a, b and c. */
const list = (words) => (words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`);

async function loadExamples() {
  let examples = [];
  try {
    examples = (await askJson("/v1/examples")).examples;
  } catch {
    // The page works without them.
  }
  $("examples").replaceChildren(...examples.map(exampleItem));
  $("examples-box").hidden = examples.length === 0;
  rove($("examples"));
}

function exampleItem(example) {
  const image = make("img", { src: example.url, alt: "", className: "pixels", width: 64, height: 64, draggable: false });
  const button = make("button", { type: "button", title: `From the data, where its class is ${example.class}` },
    image, make("span", { className: "name", textContent: example.class }));
  button.setAttribute("aria-label", `Example ${example.id}, class ${example.class}`);
  button.addEventListener("click", () => takeExample(example));
  return make("li", { role: "none" }, button);
}

/** Makes a row of buttons one stop for the Tab key; `current` or else the first is that stop. */
function rove(row, current = null) {
  const buttons = [...row.querySelectorAll("button")];
  const stop = buttons.includes(current) ? current : buttons[0];
  for (const button of buttons) button.tabIndex = button === stop ? 0 : -1;
}

/** Within such a row the arrow keys move. */
function moveInRow(event) {
  const buttons = [...event.currentTarget.querySelectorAll("button")];
  const at = buttons.indexOf(event.target);
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: buttons.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  const next = buttons[Math.min(buttons.length - 1, Math.max(0, to))];
  rove(event.currentTarget, next);
  next.focus();
}

async function takeExample(example) {
  const known = state.pictures.find((picture) => picture.example === example.id);
  if (known) return select(known);
  try {
    const blob = await (await ask(example.url)).blob();
    addPictures([{ blob, name: `example ${example.id}`, example: example.id, truth: example.class }]);
  } catch (error) {
    say(error instanceof Problem ? error.message : "The example could not be fetched.");
  }
}

// ---------------------------------------------------------------------------------------------------- the pictures

/** Takes pictures into the list and selects the last; the oldest leave where there are too many. */
function addPictures(sources) {
  say(sources.length > MOST_PICTURES ? `Only the last ${MOST_PICTURES} of ${sources.length} pictures were taken.` : null);
  for (const { blob, name, example = null, truth = null } of sources.slice(-MOST_PICTURES)) {
    state.pictures.unshift({
      id: state.nextId++, blob, name, example, truth,
      url: URL.createObjectURL(blob),
      started: false,
      controller: new AbortController(),
      asked: new Map(), // By model: a promise that is kept when the model's answer or problem is known.
      answers: new Map(),
      problems: new Map(),
      waits: new Map(),
    });
  }
  for (const gone of state.pictures.splice(MOST_PICTURES)) forget(gone);
  select(state.pictures[0]);
  classifyRest();
}

function forget(picture) {
  picture.controller.abort();
  URL.revokeObjectURL(picture.url);
  for (const model of state.models) state.explanations.delete(keyOf(picture, model.id));
}

function clearPictures() {
  state.pictures.splice(0).forEach(forget);
  state.selected = null;
  state.where.controller?.abort();
  state.where.drawn = null;
  say(null);
  showPictures();
  showMessages();
  showResult();
  for (const id of ["where", "token"]) $(id).hidden = true;
  $("file").focus();
}

function select(picture) {
  state.selected = picture;
  showPictures();
  showResult();
  if (!picture.started) classify(picture);
  explain();
  if (finished(picture)) announce(picture);
}

const finished = (picture) => state.models.every(({ id }) => picture.answers.has(id) || picture.problems.has(id));

/** Asks every model about a picture, all at once; one that fails does not hold up the others. */
async function classify(picture) {
  picture.started = true;
  picture.problems.clear();
  const missing = state.models.filter((model) => !picture.answers.has(model.id));
  for (const { id } of missing) picture.asked.set(id, classifyBy(picture, id));
  await Promise.all(picture.asked.values());
}

async function classifyBy(picture, model) {
  const path = `/v1/predict?model=${encodeURIComponent(model)}&top=${TOP}`;
  const signal = picture.controller.signal;
  try {
    const answer = await askJson(path, posted(picture.blob, signal), (words) => {
      if (words) picture.waits.set(model, words);
      else picture.waits.delete(model);
      showMessages();
    });
    if (!answer.likeliest?.length) throw new Problem("The server's answer has no classes.");
    picture.answers.set(model, answer);
  } catch (error) {
    if (signal.aborted) return;
    picture.problems.set(model, error instanceof Problem ? error.message : "The server's answer is not as expected.");
  }
  if (signal.aborted) return;
  showMessages();
  showPictures();
  if (picture !== state.selected) return;
  showResult();
  if (finished(picture)) announce(picture);
}

/** The pictures that came along with the selected one, one at a time, so that what is selected is answered first. */
async function classifyRest() {
  if (classifyRest.running) return;
  classifyRest.running = true;
  let next;
  while ((next = state.pictures.find((picture) => !picture.started))) await classify(next);
  classifyRest.running = false;
}

function tryAgain(picture) {
  classify(picture);
  select(picture);
  showMessages();
  picture.item.firstChild.focus(); // The button that was pressed is gone.
}

/** What each first answer is, the models that gave it, in the models' order. */
function firstAnswers(picture) {
  const groups = new Map();
  for (const { id, name } of state.models) {
    const first = picture.answers.get(id)?.likeliest[0].class;
    if (first !== undefined) groups.set(first, [...(groups.get(first) ?? []), name]);
  }
  return groups;
}

function showPictures() {
  $("pictures-box").hidden = $("clear").hidden = state.pictures.length === 0;
  // Items are kept, not made anew, so that the keyboard's focus and the scrolled place stay.
  for (const picture of state.pictures) picture.item ??= pictureItem(picture);
  const items = state.pictures.map((picture) => picture.item);
  const box = $("pictures");
  if (items.length !== box.children.length || items.some((item, at) => item !== box.children[at])) {
    box.replaceChildren(...items);
    box.scrollLeft = 0;
  }
  rove(box, state.selected?.item.firstChild);
  for (const picture of state.pictures) {
    const says = [...firstAnswers(picture).keys()].join(" / ");
    const failed = !says && picture.problems.size > 0;
    picture.item.classList.toggle("failed", failed);
    picture.item.querySelector(".says").textContent = says || (failed ? "failed" : "…");
    picture.item.firstChild.setAttribute("aria-current", String(picture === state.selected));
  }
}

function pictureItem(picture) {
  const image = make("img", { alt: "", width: 64, height: 64, decoding: "async", draggable: false, src: picture.url });
  image.addEventListener("load", () => image.classList.toggle("pixels", image.naturalWidth <= 96));
  // What the browser cannot show is left a plain square.
  image.addEventListener("error", () => image.replaceWith(make("span", { className: "blank" })));
  const button = make("button", { type: "button", title: picture.name }, image,
    make("span", { className: "name", textContent: picture.name }), make("span", { className: "says" }));
  button.addEventListener("click", () => select(picture));
  return make("li", { role: "none" }, button);
}

// ------------------------------------------------------------------------------------------------ messages in words

let said = null; // What is wrong with no picture in particular.

function say(words) {
  said = words;
  showMessages();
}

/** The picture's problems; which model, where the models do not all say the same. */
function problemsOf(picture) {
  const groups = new Map();
  for (const [model, words] of picture.problems) groups.set(words, [...(groups.get(words) ?? []), modelName(model)]);
  return [...groups].map(([words, models]) =>
    models.length === state.models.length ? words : `For ${list(models)}: ${words}`);
}

function showMessages() {
  const lines = said === null ? [] : [{ key: "said", words: said }];
  for (const picture of state.pictures) {
    const waits = [...new Set(picture.waits.values())];
    if (waits.length) lines.push({ key: `wait ${picture.id}`, words: `${picture.name}: ${waits.join(" ")}`, wait: true });
    const problems = finished(picture) ? problemsOf(picture) : [];
    if (problems.length) lines.push({ key: `${picture.id}`, words: `${picture.name}: ${problems.join(" ")}`, picture });
  }
  // Written only where something changed: an alert is read aloud each time.
  const now = lines.map((line) => `${line.key} ${line.words}`).join("\n");
  if (showMessages.before === now) return;
  showMessages.before = now;
  $("messages").replaceChildren(...lines.map(messageItem));
}

function messageItem({ words, wait, picture }) {
  const again = picture ? make("button", { type: "button", textContent: "Try again" }) : null;
  again?.addEventListener("click", () => tryAgain(picture));
  return make("li", { className: wait ? "wait" : "" }, make("span", { textContent: words }), again);
}

/** Tells those who listen what the models say. */
function announce(picture) {
  const says = state.models.map(({ id, name }) => {
    const first = picture.answers.get(id)?.likeliest[0];
    return first ? `${name} says ${first.class}, ${percent(first.probability)}` : `${name} has no answer`;
  });
  $("announce").textContent = `${picture.name}: ${says.join("; ")}.`;
}

// ---------------------------------------------------------------------------------------------------- what it is

function showResult() {
  const picture = state.selected;
  $("result").hidden = picture === null;
  if (!picture) return;
  showGiven(picture);
  const groups = firstAnswers(picture);
  $("verdict").textContent = verdict(picture, groups);
  $("verdict").classList.toggle("differ", groups.size > 1);
  const order = [...groups.keys()];
  // Where no model has an answer, what is wrong stands by the drop zone: empty cards would add nothing.
  const none = finished(picture) && order.length === 0;
  $("cards").replaceChildren(...(none ? [] : state.models.map((model) => card(picture, model, order))));
  $("cards").setAttribute("aria-busy", String(!finished(picture)));
}

function showGiven(picture) {
  const image = $("given");
  $("given-name").textContent = picture.truth === null ? picture.name : `${picture.name}; in the data it is ${picture.truth}`;
  if (image.dataset.picture === String(picture.id)) return;
  image.dataset.picture = picture.id;
  image.hidden = false;
  $("given-blank").hidden = true;
  image.alt = `The picture as given: ${picture.name}`;
  image.onload = () => image.classList.toggle("pixels", image.naturalWidth <= 96);
  image.onerror = () => {
    image.hidden = true;
    $("given-blank").hidden = false;
  };
  image.src = picture.url;
}

function verdict(picture, groups) {
  if (!finished(picture)) return "Asking …";
  const answered = [...groups.values()].flat();
  if (groups.size === 0) return "No answer for this picture; the reason is given above.";
  if (groups.size > 1) {
    return `The models differ: ${[...groups].map(([name, models]) => `${list(models)} ${models.length > 1 ? "say" : "says"} ${name}`).join("; ")}.`;
  }
  const [name] = groups.keys();
  if (answered.length === 1) return `${answered[0]} says ${name}.`;
  return answered.length === 2 ? `Both models say ${name}.` : `All ${answered.length} models say ${name}.`;
}

function card(picture, model, order) {
  const answer = picture.answers.get(model.id);
  const title = make("h3", {}, make("b", { textContent: model.name }),
    answer ? make("span", { textContent: `${Number(answer.milliseconds).toFixed(1)} ms` }) : null);
  if (!answer) {
    const problem = picture.problems.get(model.id);
    const words = make("p", { className: problem ? "problem" : "note", textContent: problem ?? "Asking …" });
    return make("article", { className: `card answer-none ${problem ? "" : "waiting"}` }, title, words);
  }
  const first = answer.likeliest[0];
  const which = Math.min(order.indexOf(first.class), 4);
  return make("article", { className: `card answer-${which}` }, title,
    make("p", { className: "first" }, make("b", { textContent: first.class }), truthMark(picture, model, first.class)),
    make("ol", { className: "bars" }, ...answer.likeliest.slice(0, TOP).map(barItem)));
}

/** Right or wrong, where the data says what the picture is and the model knows that class. */
function truthMark(picture, model, said) {
  if (picture.truth === null || !model.classes.includes(picture.truth)) return null;
  const right = said === picture.truth;
  return make("span", { className: right ? "right" : "wrong", textContent: right ? "✓ right" : `✗ it is ${picture.truth}` });
}

function barItem({ class: name, probability }) {
  const bar = make("span", { className: "bar" });
  bar.style.width = `${100 * probability}%`;
  const track = make("span", { className: "track" }, bar);
  track.setAttribute("aria-hidden", "true");
  return make("li", {}, make("span", { className: "class", textContent: name }), track,
    make("span", { className: "percent", textContent: percent(probability) }));
}

// ------------------------------------------------------------------------------------------------ where it looks

const keyOf = (picture, model) => `${picture.id} ${model}`;

/** Fetches what the chosen model did with the selected picture, and shows it. */
async function explain() {
  const { where } = state;
  const picture = state.selected;
  where.controller?.abort();
  if (!picture || where.model === null) return;
  const key = keyOf(picture, where.model);
  const model = where.model;
  const kept = state.explanations.get(key);
  if (kept) return showExplanation(kept);
  const controller = (where.controller = new AbortController());
  const { signal } = controller;
  whereState("Asking where it looks …");
  // A picture that cannot be classified is not sent again, only to hear the same.
  await picture.asked.get(model);
  if (signal.aborted) return;
  if (picture.problems.has(model)) return whereNothing();
  $("where").hidden = false;
  try {
    const path = `/v1/explain?model=${encodeURIComponent(model)}`;
    const raw = await askJson(path, posted(picture.blob, signal), (words) => !signal.aborted && words && whereState(words));
    const explanation = await unpack(raw, model);
    if (signal.aborted) return;
    keep(key, explanation);
    showExplanation(explanation);
  } catch (error) {
    if (signal.aborted) return;
    whereFailed(error instanceof Problem ? error.message : "The server's explanation is not as expected.");
  }
}

function keep(key, explanation) {
  state.explanations.set(key, explanation);
  while (state.explanations.size > MOST_EXPLANATIONS) state.explanations.delete(state.explanations.keys().next().value);
}

/** Words in place of a drawing that is not there yet; the old one stays, dimmed, so that the page does not jump. */
function whereState(words) {
  $("where-state").textContent = words ?? "";
  $("where-state").hidden = !words;
  $("where-again").hidden = true;
  const stale = Boolean(words);
  if (!state.where.drawn) $("looks").hidden = stale;
  for (const id of ["looks", "token"]) {
    $(id).style.opacity = stale ? "0.35" : "";
    $(id).inert = stale;
  }
}

function whereFailed(words) {
  whereNothing();
  $("where").hidden = false;
  whereState(words);
  $("where-again").hidden = false;
}

/** Nothing to draw. The chooser stays where another model has an answer. */
function whereNothing() {
  state.where.drawn = null;
  const others = state.selected.answers.size > 0;
  whereState(others ? "This model has no answer for this picture; the reason is given above." : null);
  $("where").hidden = !others;
  for (const id of ["looks", "token", "where-layer-box", "where-head-box", "where-strength-box"]) $(id).hidden = true;
}

/** The server's answer with its pictures decoded and its bytes as bytes. */
async function unpack(raw, modelId) {
  const views = await Promise.all((raw.views ?? []).map(async (view) => ({ name: view.name, image: await decode(view.image) })));
  const image = await decode(raw.image);
  return {
    model: state.models.find((model) => model.id === modelId),
    image,
    grey: greyOf(image),
    layers: raw.layers.map(unpackLayer),
    rollout: raw.rollout,
    views,
    patch: raw.patch,
  };
}

function unpackLayer(layer) {
  const cells = layer.grid[0] * layer.grid[1];
  const bytes = Uint8Array.from(atob(layer.maps ?? ""), (letter) => letter.charCodeAt(0));
  // Without whole maps there is still what each cell receives.
  const whole = bytes.length === layer.heads.length * cells * cells ? bytes : null;
  const own = (_, at) => whole[at * cells + (at % cells)];
  const blind = whole !== null && Array.from({ length: layer.heads.length * cells }, own).every((byte) => byte === 0);
  return { ...layer, cells, bytes: whole, blind };
}

async function decode(url) {
  if (!String(url).startsWith("data:image/")) throw new Problem("The server's explanation has no picture.");
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

/** The picture without its colours, so that all colour seen is the overlay's. */
function greyOf(image) {
  const canvas = make("canvas", { width: image.naturalWidth, height: image.naturalHeight });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < pixels.data.length; at += 4) {
    const [red, green, blue] = pixels.data.subarray(at, at + 3);
    pixels.data.fill(0.299 * red + 0.587 * green + 0.114 * blue, at, at + 3);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

function showExplanation(explanation) {
  const { where } = state;
  where.drawn = explanation;
  where.hover = null;
  $("where").hidden = false;
  $("looks").hidden = false;
  whereState(null);
  const attends = explanation.layers.length > 0 || explanation.rollout;
  $("looks").hidden = !attends;
  for (const id of ["where-layer-box", "where-head-box", "where-strength-box"]) $(id).hidden = !attends;
  if (attends) {
    keepChoice(explanation);
    fillChoosers(explanation);
    buildStrip(explanation);
  } else {
    whereState("This model has no attention: there is nothing to draw.");
    $("looks").hidden = true;
    $("token").style.opacity = "";
    $("token").inert = false;
  }
  buildViews(explanation);
  draw();
}

/** Keeps the chosen layer and head where this model has them; else its last layer, mean of heads. */
function keepChoice({ layers, rollout, model }) {
  const { where } = state;
  if (where.chosenFor !== undefined && where.layer === "rollout" && rollout) return;
  if (where.chosenFor === undefined || !layers[where.layer]) where.layer = layers.length ? layers.length - 1 : "rollout";
  if (where.layer !== "rollout" && where.head !== "mean" && !layers[where.layer].heads[where.head]) where.head = "mean";
  where.chosenFor = model.id;
}

function fillChoosers({ layers, rollout }) {
  const option = (value, textContent) => make("option", { value: String(value), textContent });
  $("where-layer").replaceChildren(
    ...layers.map((layer, at) => option(at, `${at + 1} of ${layers.length}`)),
    ...(rollout ? [option("rollout", "all: rollout")] : []));
  const heads = layers[state.where.layer]?.heads.length ?? 0;
  $("where-head").replaceChildren(option("mean", heads === 1 ? "the only one" : "mean of heads"),
    ...(heads > 1 ? Array.from({ length: heads }, (_, at) => option(at, `${at + 1} of ${heads}`)) : []));
  $("where-model").value = state.where.model;
  $("where-layer").value = String(state.where.layer);
  $("where-head").value = String(state.where.head);
  $("where-head").disabled = heads < 2;
}

function choose(layer, head) {
  const { where } = state;
  where.layer = layer;
  where.head = head;
  keepChoice(where.drawn);
  fillChoosers(where.drawn);
  draw();
}

// ----------------------------------------------------------------------------------------------- cells and shares

/** The cell of a grid that a place in the picture falls in. */
function cellAt({ x, y }, [rows, columns]) {
  const row = Math.min(rows - 1, Math.max(0, Math.floor(y * rows)));
  const column = Math.min(columns - 1, Math.max(0, Math.floor(x * columns)));
  return { row, column, index: row * columns + column };
}

const middleOf = ({ row, column }, [rows, columns]) => ({ x: (column + 0.5) / columns, y: (row + 0.5) / rows });

/** The grid that is drawn, and that the cursor moves in. */
function gridShown({ layers, rollout, patch }) {
  return state.where.layer === "rollout" ? rollout.grid : (layers[state.where.layer]?.grid ?? patch.grid);
}

const placeShown = () => state.where.hover ?? state.where.cell;

/** Whether the attention from one cell is shown, not what all receive. */
const fromOne = () => state.where.layer !== "rollout" && (state.where.pinned || state.where.focused || state.where.hover !== null);

/** Adds `values`, brought to a sum of 1, times `weight`. */
function addShares(into, values, weight) {
  let sum = 0;
  for (const value of values) sum += value;
  if (sum > 0) for (let at = 0; at < into.length; at += 1) into[at] += (weight * values[at]) / sum;
}

/** The share of the attention that goes to each cell: from all cells, or from the one at `place`. */
function shares({ layers, rollout }, layerAt, head, place) {
  if (layerAt === "rollout") {
    const result = new Float64Array(rollout.values.length);
    addShares(result, rollout.values, 1);
    return result;
  }
  const layer = layers[layerAt];
  const { cells, bytes } = layer;
  const heads = head === "mean" ? [...layer.heads.keys()] : [head];
  const result = new Float64Array(cells);
  for (const one of heads) {
    const start = place && bytes ? (one * cells + cellAt(place, layer.grid).index) * cells : 0;
    const values = place && bytes ? bytes.subarray(start, start + cells) : layer.heads[one].received;
    addShares(result, values, 1 / heads.length);
  }
  return result;
}

// -------------------------------------------------------------------------------------------------------- colours

// Viridis: from dark to light in even steps, so it can be read without telling hues apart, and on light and dark.
const VIRIDIS = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137],
  [53, 183, 121], [110, 206, 88], [181, 222, 43], [253, 231, 37]];

const PALETTE = Array.from({ length: 256 }, (_, at) => {
  const place = (at / 255) * (VIRIDIS.length - 1);
  const low = Math.min(VIRIDIS.length - 2, Math.floor(place));
  return VIRIDIS[low].map((from, part) => Math.round(from + (place - low) * (VIRIDIS[low + 1][part] - from)));
});

// From the least to the most, but what is nearly even is not to look as if it were not.
const EVEN = 0.2;
const scale = (values) => {
  const most = largest(values);
  const least = Math.min(...values);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return { least, most: Math.max(most, least + EVEN * mean) };
};
const shade = (value, { least, most }) => PALETTE[most > least ? Math.round((255 * (value - least)) / (most - least)) : 0];
const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;
const largest = (values) => values.reduce((most, value) => Math.max(most, value), 0);

// -------------------------------------------------------------------------------------------------------- drawing

/** Draws everything that follows the choice and the cell, once before the next frame. */
function draw() {
  if (draw.waiting) return;
  draw.waiting = true;
  requestAnimationFrame(() => {
    draw.waiting = false;
    const explanation = state.where.drawn;
    if (!explanation || !state.selected) return;
    if (explanation.layers.length > 0 || explanation.rollout) {
      drawLook(explanation);
      drawStrip(explanation);
    }
    drawViews(explanation);
  });
}

function drawLook(explanation) {
  const { where } = state;
  const grid = gridShown(explanation);
  const place = fromOne() ? placeShown() : null;
  const values = shares(explanation, where.layer, where.head, place);
  const range = scale(values);
  paintLook(explanation, grid, values, range);
  paintBorders(explanation.layers[where.layer], grid);
  if (where.pinned || where.focused || where.hover) outline($("look"), boxOf(cellAt(placeShown(), grid), grid, 640));
  paintLegend();
  $("legend-least").textContent = percent(range.least);
  $("legend-most").textContent = percent(range.most);
  $("look-says").textContent = lookWords(explanation, grid, values, place);
  $("look-all").disabled = !(where.pinned || where.focused);
  showNotes(explanation, grid);
}

function paintLook(explanation, grid, values, range) {
  const canvas = $("look");
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  const strength = Number($("where-strength").value) / 100;
  context.globalAlpha = 1;
  // With no overlay the picture has its colours.
  context.drawImage(strength > 0 ? explanation.grey : explanation.image, 0, 0, canvas.width, canvas.height);
  context.globalAlpha = strength;
  values.forEach((value, index) => {
    const [x, y, width, height] = boxOf({ row: Math.floor(index / grid[1]), column: index % grid[1] }, grid, canvas.width);
    context.fillStyle = css(shade(value, range));
    context.fillRect(x, y, width, height);
  });
  context.globalAlpha = 1;
}

/** The borders of the windows in which a layer's cells look at each other: dark and light, to be seen on every ground. */
function paintBorders(layer, [rows]) {
  const canvas = $("look");
  const context = canvas.getContext("2d");
  for (const border of layer?.borders ?? []) {
    const at = Math.round((border * canvas.width) / rows);
    for (const [colour, thick] of [["#000", 4], ["#fff", 1.5]]) {
      context.fillStyle = colour;
      context.fillRect(at - thick / 2, 0, thick, canvas.height);
      context.fillRect(0, at - thick / 2, canvas.width, thick);
    }
  }
}

/** x, y, width, height of a cell on a square of that size, in whole pixels and without gaps. */
function boxOf({ row, column }, [rows, columns], size) {
  const [x, y] = [Math.round((column * size) / columns), Math.round((row * size) / rows)];
  return [x, y, Math.round(((column + 1) * size) / columns) - x, Math.round(((row + 1) * size) / rows) - y];
}

/** A frame that is seen on every ground: black, white, black, around the box. */
function outline(canvas, [x, y, width, height]) {
  const context = canvas.getContext("2d");
  // The canvases are shown at half their size or less.
  for (const [colour, thick] of [["#000", 10], ["#fff", 4]]) {
    context.strokeStyle = colour;
    context.lineWidth = thick;
    context.strokeRect(x, y, width, height);
  }
}

/** The palette as it looks over middle grey at the overlay's strength. */
function paintLegend() {
  const canvas = $("legend");
  const context = canvas.getContext("2d");
  context.globalAlpha = 1;
  context.fillStyle = "rgb(128 128 128)";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.globalAlpha = Number($("where-strength").value) / 100;
  PALETTE.forEach((colour, at) => {
    context.fillStyle = css(colour);
    context.fillRect((at * canvas.width) / 256, 0, Math.ceil(canvas.width / 256), canvas.height);
  });
}

/** What the drawing shows, in words: also for those who do not see it. */
function lookWords(explanation, grid, values, place) {
  const at = values.indexOf(largest(values));
  const name = (index) => `row ${Math.floor(index / grid[1]) + 1}, column ${(index % grid[1]) + 1}`;
  const most = `${name(at)}, with ${percent(values[at])}`;
  const even = `Evenly spread, each would have ${percent(1 / values.length)}.`;
  if (state.where.layer === "rollout") return `Through all layers, most comes from ${most}. ${even}`;
  if (explanation.layers[state.where.layer].of_class) return `Where the class token looks. Most: ${most}. ${even}`;
  if (!place) return `What each cell receives, mean over all that look. Most: ${most}. ${even}`;
  const own = cellAt(place, grid);
  if (!explanation.layers[state.where.layer].bytes) return `Cell ${name(own.index)}. The server sent only what each cell receives.`;
  return `Where ${name(own.index)} looks. Most: ${most}; itself: ${percent(values[own.index])}. ${even}`;
}

function showNotes({ layers }, grid) {
  const { where } = state;
  const help = where.layer === "rollout"
    ? "Rollout multiplies the layers' attention, each mixed with the path around it: how much of each cell reaches the end. It has no single cell to look from; the cursor still chooses the token below."
    : `Point at a cell to see where it looks; click it, and it stays. With the keyboard: Tab to the picture, arrow keys to move, Escape to see what all ${grid[0]}\u00a0×\u00a0${grid[1]} cells receive.`;
  const layer = layers[where.layer];
  const own = layer?.blind ? " This model has locality self-attention: no cell looks at itself, so its own cell is 0." : "";
  const within = layer?.borders.length ? " Cells of one window look at each other alone; lines are its borders." : "";
  const token = "In this layer the class token alone looks at the cells, and they at nothing: there is no cell to look from.";
  $("look-help").textContent = layer?.of_class ? token : help + within + own;
  $("look-temperature").textContent = temperatureWords(layers[where.layer], where.head);
  $("look-temperature").hidden = !$("look-temperature").textContent;
}

function temperatureWords(layer, head) {
  const temperature = layer?.temperature;
  if (!temperature?.length) return "";
  const number = (value) => value.toPrecision(3);
  if (temperature.length === 1) return `Sharpness that this layer has learned: ${number(temperature[0])} (1 is plain attention).`;
  if (head !== "mean") return `Sharpness that this head has learned: ${number(temperature[head])} (1 is plain attention).`;
  return `Sharpness that its heads have learned: ${temperature.map(number).join(", ")} (1 is plain attention).`;
}

// ---------------------------------------------------------------------------------- the strip of layers and heads

/** Rows of choices: a layer's mean and heads, and the rollout. */
function stripRows({ layers, rollout }) {
  const rows = layers.map((layer, at) => {
    const heads = layer.heads.length > 1 ? [...layer.heads.keys()] : [];
    return ["mean", ...heads].map((head) => ({ layer: at, head }));
  });
  return rollout ? [...rows, [{ layer: "rollout", head: "mean" }]] : rows;
}

function buildStrip(explanation) {
  const rows = stripRows(explanation);
  const most = Math.max(...rows.map((row) => row.length));
  const head = make("div", { className: "strip-row strip-head" }, make("span"),
    ...Array.from({ length: most }, (_, at) => make("i", { textContent: at === 0 ? (most > 1 ? "mean" : "") : `head ${at}` })));
  head.setAttribute("aria-hidden", "true");
  state.where.thumbs = rows.map((row) => row.map((choice) => stripThumb(explanation, choice)));
  const elements = rows.map((row, at) => make("div", { className: "strip-row" },
    make("span", { textContent: row[0].layer === "rollout" ? "rollout" : `layer ${at + 1}` }),
    ...state.where.thumbs[at].map((thumb) => thumb.button)));
  $("strip").replaceChildren(head, ...elements);
}

function stripThumb({ layers, rollout }, choice) {
  const [rows, columns] = choice.layer === "rollout" ? rollout.grid : layers[choice.layer].grid;
  const canvas = make("canvas", { width: columns, height: rows });
  const button = make("button", { type: "button", role: "radio" }, canvas);
  const heads = choice.head === "mean" ? "mean of heads" : `head ${choice.head + 1}`;
  const temperature = temperatureWords(layers[choice.layer], choice.head);
  const name = choice.layer === "rollout" ? "Rollout" : `Layer ${choice.layer + 1}, ${heads}`;
  button.setAttribute("aria-label", name);
  button.title = temperature ? `${name}. ${temperature}` : name;
  button.addEventListener("click", () => choose(choice.layer, choice.head));
  return { button, canvas, choice };
}

function drawStrip(explanation) {
  const { where } = state;
  const place = state.where.pinned || state.where.focused || state.where.hover ? placeShown() : null;
  for (const { button, canvas, choice } of where.thumbs.flat()) {
    const current = choice.layer === where.layer && (choice.layer === "rollout" || choice.head === where.head);
    button.setAttribute("aria-checked", String(current));
    // One stop for the Tab key; the arrow keys move within.
    button.tabIndex = current ? 0 : -1;
    paintThumb(canvas, shares(explanation, choice.layer, choice.head, place));
  }
  $("strip-note").textContent = place
    ? "Each small square: where the outlined cell looks, in that layer and head; the lightest cell is its largest."
    : "Each small square: what the cells receive, in that layer and head; the lightest cell is its largest.";
}

function paintThumb(canvas, values) {
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  const range = scale(values);
  values.forEach((value, at) => pixels.data.set([...shade(value, range), 255], 4 * at));
  context.putImageData(pixels, 0, 0);
}

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function moveInStrip(event) {
  const step = STEPS[event.key];
  const { thumbs } = state.where;
  const row = thumbs?.findIndex((those) => those.some((thumb) => thumb.button === event.target)) ?? -1;
  if (!step || row < 0) return;
  event.preventDefault();
  const column = thumbs[row].findIndex((thumb) => thumb.button === event.target);
  const nextRow = thumbs[Math.min(thumbs.length - 1, Math.max(0, row + step[0]))];
  const next = nextRow[Math.min(nextRow.length - 1, Math.max(0, column + step[1]))];
  choose(next.choice.layer, next.choice.head);
  next.button.tabIndex = 0;
  next.button.focus();
}

// ----------------------------------------------------------------------------------------------- the cell's cursor

/** Where in a canvas an event is, in parts of it. */
function placeOf(event) {
  const box = event.currentTarget.getBoundingClientRect();
  return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
}

function hoverCell(event) {
  // A finger does not hover; its tap is a click.
  if (event.pointerType === "touch") return;
  state.where.hover = placeOf(event);
  draw();
}

function leaveCell() {
  state.where.hover = null;
  draw();
}

function pin(place, grid) {
  state.where.cell = middleOf(cellAt(place, grid), grid);
  state.where.pinned = true;
  draw();
}

function clickCell(event) {
  const { where } = state;
  if (!where.drawn) return;
  const grid = gridShown(where.drawn);
  const again = where.pinned && cellAt(where.cell, grid).index === cellAt(placeOf(event), grid).index;
  if (again) showAll();
  else pin(placeOf(event), grid);
}

function showAll() {
  Object.assign(state.where, { pinned: false, focused: false, hover: null });
  draw();
}

function moveCell(event) {
  if (event.key === "Escape") return showAll();
  const step = STEPS[event.key];
  if (!step || !state.where.drawn || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  const grid = gridShown(state.where.drawn);
  const { row, column } = cellAt(state.where.cell, grid);
  state.where.hover = null;
  pin(middleOf({ row: row + step[0], column: column + step[1] }, grid), grid);
}

// -------------------------------------------------------------------------------------------- what a token sees

function buildViews({ views, patch, model }) {
  $("token").hidden = views.length === 0;
  if (views.length === 0) return;
  const numbers = patch.size * patch.size * model.channels * views.length;
  $("token-says").textContent =
    `The vector of a token is made from the same cell of ${views.length === 5 ? "five" : views.length} pictures: the picture itself and its copies shifted `
    + `diagonally by half a patch; joined, these patches are ${patch.size}\u00a0×\u00a0${patch.size} pixels × ${model.channels} `
    + `channel${model.channels > 1 ? "s" : ""} × ${views.length} = ${numbers} numbers, so the token sees its own patch and half of each neighbour.`;
  state.where.views = views.map((view) => viewOf(view, patch));
  $("views").replaceChildren(...state.where.views.map((view) => view.whole));
  $("patches").replaceChildren(...state.where.views.map((view) => view.part));
}

function viewOf(view, patch) {
  const canvas = make("canvas", { width: 352, height: 352, role: "img" });
  const patchCanvas = make("canvas", { width: patch.size, height: patch.size, role: "img" });
  canvas.setAttribute("aria-label", `The picture, ${view.name}, with the patch outlined`);
  patchCanvas.setAttribute("aria-label", `The patch from ${view.name}`);
  // A cell may also be chosen here; with the keyboard it is, in the picture above.
  canvas.addEventListener("click", (event) => pin(placeOf(event), patch.grid));
  const named = (element) => make("figure", {}, element, make("figcaption", { textContent: view.name }));
  return { image: view.image, canvas, patchCanvas, whole: named(canvas), part: named(patchCanvas) };
}

function drawViews({ views, patch }) {
  if (views.length === 0) return;
  const cell = cellAt(placeShown(), patch.grid);
  for (const view of state.where.views) {
    const context = view.canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(view.image, 0, 0, view.canvas.width, view.canvas.height);
    outline(view.canvas, patchBox(cell, patch, view.image.naturalWidth).map((part) => (part * view.canvas.width) / view.image.naturalWidth));
    const [x, y, size] = patchBox(cell, patch, view.image.naturalWidth);
    const patchContext = view.patchCanvas.getContext("2d");
    patchContext.imageSmoothingEnabled = false;
    patchContext.fillRect(0, 0, patch.size, patch.size);
    patchContext.drawImage(view.image, x, y, size, size, 0, 0, patch.size, patch.size);
  }
}

/** The patch's box in the image's pixels, around the cell's middle: patches that overlap are larger than cells. */
function patchBox(cell, { size, grid }, imageSize) {
  const middle = middleOf(cell, grid);
  return [Math.round(middle.x * imageSize - size / 2), Math.round(middle.y * imageSize - size / 2), size, size];
}

// ------------------------------------------------------------------------------------------- ways to give a picture

function takeFiles(files, name = (file) => file.name || "picture") {
  if (state.models.length === 0) return;
  addPictures([...files].map((file) => ({ blob: file, name: name(file) })));
}

function choseFiles(event) {
  if (event.target.files.length) takeFiles(event.target.files);
  event.target.value = ""; // So that the same file can be chosen again.
}

function pasted(event) {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length === 0) return say("There is no picture in what was pasted.");
  event.preventDefault();
  // Browsers call every pasted picture image.png.
  takeFiles(files, (file) => (file.name && file.name !== "image.png" ? file.name : `pasted ${(pasted.count = (pasted.count ?? 0) + 1)}`));
}

function dropped(event) {
  event.preventDefault();
  $("drop").classList.remove("over");
  const files = event.dataTransfer?.files ?? [];
  if (files.length) takeFiles(files);
  else say("What was dropped is not a file. Save the picture first, then drop the file.");
}

/** Without this a picture that misses the zone would be opened in place of the page. */
function draggedOver(event) {
  event.preventDefault();
  $("drop").classList.add("over");
}

async function openCamera() {
  if (state.camera) return;
  say(null);
  try {
    state.camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1280 } } });
  } catch (error) {
    const refused = error.name === "NotAllowedError";
    return say(refused ? "The browser was not allowed to use the camera." : "No camera could be opened.");
  }
  $("camera").hidden = false;
  $("camera-open").disabled = true;
  $("camera-view").srcObject = state.camera;
  $("camera-view").play().catch(() => {}); // It was stopped before it began.
  $("camera-shoot").focus();
}

function closeCamera() {
  state.camera?.getTracks().forEach((track) => track.stop());
  state.camera = null;
  $("camera-view").srcObject = null;
  $("camera").hidden = true;
  $("camera-open").disabled = false;
  $("camera-open").focus();
}

function shoot() {
  const video = $("camera-view");
  if (!video.videoWidth) return say("The camera has not given a picture yet.");
  const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  closeCamera();
  shoot.count = (shoot.count ?? 0) + 1;
  const name = `photograph ${shoot.count}`;
  canvas.toBlob((blob) => blob ? addPictures([{ blob, name }]) : say("The photograph could not be kept."), "image/jpeg", 0.95);
}

// ----------------------------------------------------------------------------------------------------------- wiring

function wireGiving() {
  $("file").addEventListener("change", choseFiles);
  $("clear").addEventListener("click", clearPictures);
  $("reconnect").addEventListener("click", loadModels);
  for (const id of ["examples", "pictures"]) $(id).addEventListener("keydown", moveInRow);
  document.addEventListener("paste", pasted);
  document.addEventListener("dragover", draggedOver);
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && $("drop").classList.remove("over"));
  document.addEventListener("drop", dropped);
  $("camera-open").addEventListener("click", openCamera);
  $("camera-shoot").addEventListener("click", shoot);
  $("camera-stop").addEventListener("click", closeCamera);
  window.addEventListener("pagehide", () => state.camera && closeCamera());
}

function wireWhere() {
  const number = (text) => (/^\d+$/.test(text) ? Number(text) : text);
  $("where-model").addEventListener("change", (event) => {
    state.where.model = event.target.value;
    explain();
  });
  $("where-layer").addEventListener("change", (event) => choose(number(event.target.value), state.where.head));
  $("where-head").addEventListener("change", (event) => choose(state.where.layer, number(event.target.value)));
  $("where-strength").addEventListener("input", draw);
  $("where-again").addEventListener("click", explain);
  $("look-all").addEventListener("click", showAll);
  $("strip").addEventListener("keydown", moveInStrip);
  const look = $("look");
  look.addEventListener("pointermove", hoverCell);
  look.addEventListener("pointerleave", leaveCell);
  look.addEventListener("click", clickCell);
  look.addEventListener("keydown", moveCell);
  // Only the keyboard's focus: a click has its own meaning.
  look.addEventListener("focus", () => {
    state.where.focused = look.matches(":focus-visible");
    draw();
  });
  look.addEventListener("blur", () => {
    state.where.focused = false;
    draw();
  });
}

wireGiving();
wireWhere();
loadModels();
