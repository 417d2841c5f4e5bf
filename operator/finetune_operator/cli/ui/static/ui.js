// The page of `finetune serve-ui`. It asks the server and shows the answers; it computes nothing but widths.
"use strict";

const COLOURS = ["#3b82f6", "#06b6d4", "#d946ef", "#eab308", "#22c55e", "#ef4444", "#94a3b8"];
const WAIT_MS = 250;
const POLL_MS = 3000;
const POLL_SHARE = 10; // a list that takes long to read is read less often
const JOBS_PER_PAGE = 50;
const TOKEN = "finetune-token";
const $ = (id) => document.getElementById(id);

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function table(name, titles, rows) {
  const head = element("tr", {}, ...titles.map((title) => element("th", { scope: "col", textContent: title })));
  const body = rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", {}, cell))));
  const caption = element("caption", { textContent: name });
  const scroll = element("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: name });
  scroll.append(element("table", {}, caption, element("thead", {}, head), element("tbody", {}, ...body)));
  return scroll;
}

class Failed extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function answerTo(address, options = {}) {
  try {
    return await fetch(address, options);
  } catch {
    throw new Failed("The server does not answer: is `finetune serve-ui` still running?", 0);
  }
}

async function ask(address, options) {
  const answer = await answerTo(address, options);
  const found = await answer.json();
  if (!answer.ok) throw new Failed(found.error, answer.status);
  return found;
}

// The calculator

function question() {
  const form = new FormData($("question"));
  const asked = { method: form.get("method"), model: form.get("model").trim() };
  for (const name of ["gpus", "examples", "tokensPerExample"]) if (form.get(name)) asked[name] = Number(form.get(name));
  if (form.get("gpu")) asked.gpu = form.get("gpu");
  const training = {};
  for (const name of ["sequenceLength", "globalBatchSize"]) if (form.get(name)) training[name] = Number(form.get(name));
  if (Object.keys(training).length) asked.spec = { training };
  return asked;
}

function memoryBar(bar) {
  const total = Math.max(bar.cardGiB, bar.withMarginGiB);
  const shown = bar.parts.map((part, index) => ({ ...part, colour: COLOURS[index] })).filter((part) => part.GiB >= 0.005);
  const pieces = shown.map((part) => {
    const piece = element("span", { title: `${part.name}: ${part.GiB.toFixed(2)} GiB` });
    piece.style.cssText = `width: ${(100 * part.GiB) / total}%; background: ${part.colour}`;
    return piece;
  });
  const need = element("span", { className: "need", title: `with margin: ${bar.withMarginGiB.toFixed(1)} GiB` });
  need.style.left = `${(100 * bar.withMarginGiB) / total}%`;
  const words = shown.map((part) => `${part.name} ${part.GiB.toFixed(2)}`).join(", ");
  const picture = element("div", { className: "bar", role: "img" }, ...pieces, need);
  picture.setAttribute("aria-label", `GiB of ${bar.cardGiB.toFixed(1)}: ${words}; ${bar.withMarginGiB.toFixed(1)} with margin`);
  const legend = shown.map((part) => {
    const key = element("span", { className: "key" });
    key.style.background = part.colour;
    return element("li", {}, key, `${part.name} ${part.GiB.toFixed(2)}`);
  });
  return [picture, element("ul", { className: "legend" }, ...legend)];
}

function shownPlan(found) {
  const { plan, bar, words } = found;
  const others = plan.alternatives.map((one, index) => ({ ...one, ...words.alternatives[index] }));
  const fits = others.filter((one) => !one.rejected);
  const refused = others.filter((one) => one.rejected);
  const list = (title, lines) => (lines.length ? [element("h3", { textContent: title }), element("ul", {}, ...lines.map((line) => element("li", { textContent: line })))] : []);
  return [
    element("p", { className: "summary", textContent: plan.summary }),
    element("p", { textContent: `${words.time}, ${words.cost} (${plan.estimate.gpuHours} GPU-hours on pool ${plan.pool.name})` }),
    element("p", { className: "quiet", textContent: plan.methodReason }),
    element("h3", { textContent: `Memory of the fullest GPU: ${plan.vram.totalGiB} GiB, ${plan.vram.requestGiB} with margin, of ${plan.vram.usableGiB}` }),
    ...memoryBar(bar),
    element("p", { className: "quiet", textContent: `Confidence ${plan.vram.confidence}${plan.vram.confidenceReason ? `: ${plan.vram.confidenceReason}` : ""}` }),
    ...(fits.length ? [element("h3", { textContent: "Alternatives" }), table("Plans that fit as well", ["plan", "cost", "time"], fits.map((one) => [one.summary, one.cost, one.time]))] : []),
    ...list("Does not fit", refused.map((one) => `${one.summary}: ${one.rejected}`)),
    ...list("Warnings", [...plan.warnings, ...found.remarks]),
    ...list("Assumed", found.assumed),
  ];
}

let asked = 0;
async function calculate() {
  const number = ++asked;
  const answer = $("answer");
  answer.setAttribute("aria-busy", "true");
  let shown;
  try {
    shown = shownPlan(await ask("api/plan", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(question()) }));
  } catch (error) {
    shown = [element("p", { className: "error", textContent: error.message })];
  }
  if (number !== asked) return; // a newer question is on its way
  answer.replaceChildren(...shown);
  answer.setAttribute("aria-busy", "false");
}

let timer;
function soon() {
  clearTimeout(timer);
  timer = setTimeout(calculate, WAIT_MS);
}

// Claims

let claimed = false;
async function claims() {
  if (claimed) return;
  claimed = true;
  try {
    const found = await ask("api/claims");
    $("claims-tables").replaceChildren(
      element("h3", { textContent: "Memory" }),
      table("Claims about memory", ["who", "claim", "ours, GiB per GPU", "why it differs"], found.memory.map((row) => [row.who, row.claim, row.ours, row.why])),
      element("h3", { textContent: "Hours and dollars" }),
      table("Claims about time and cost", ["who", "claim", "by its own speed", "ours", "why it differs"], found.time.map((row) => [row.who, row.claim, row.byItsOwnSpeed, row.ours, row.why])),
    );
  } catch (error) {
    claimed = false;
    $("claims-tables").replaceChildren(element("p", { className: "error", textContent: error.message }));
  }
}

// Jobs

const COLUMNS = ["namespace", "name", "phase", "reason", "model", "plan", "progress", "loss", "cost", "age"];
let known = { cluster: "", jobs: [], use: [] };
let first = 0; // of the jobs on this page

const token = () => sessionStorage.getItem(TOKEN);
const shown = () => (token() ? { headers: { Authorization: `Bearer ${token()}` } } : {});

// A link cannot show a token, so the page fetches the report itself.
async function openReport(event) {
  if (!token() || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const answer = await answerTo(event.currentTarget.href, shown());
  if (answer.ok) location.assign(URL.createObjectURL(new Blob([await answer.text()], { type: "text/html; charset=utf-8" })));
  else say((await answer.json()).error, true);
}

function cell(job, column) {
  if (column !== "name") return job[column];
  const href = `jobs/${encodeURIComponent(job.namespace)}/${encodeURIComponent(job.name)}`;
  const link = element("a", { href, textContent: job.name });
  link.addEventListener("click", openReport);
  return link;
}

function shownJobs() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = known.jobs.filter((job) => words.every((word) => COLUMNS.some((column) => job[column].toLowerCase().includes(word))));
  first = Math.max(0, Math.min(first, Math.floor((wanted.length - 1) / JOBS_PER_PAGE) * JOBS_PER_PAGE));
  const page = wanted.slice(first, first + JOBS_PER_PAGE);
  const focused = document.activeElement?.closest?.("#jobs-table a")?.getAttribute("href");
  const all = `${known.jobs.length} ${known.jobs.length === 1 ? "job" : "jobs"}`;
  const of = wanted.length === known.jobs.length ? all : `${wanted.length} of ${all}`;
  const count = wanted.length > JOBS_PER_PAGE ? `${of}, newest first: ${first + 1} to ${first + page.length}` : of;
  if ($("count").textContent !== count) $("count").textContent = count;
  $("jobs-table").replaceChildren(...(page.length ? [table("Jobs", COLUMNS, page.map((job) => COLUMNS.map((column) => cell(job, column))))] : []));
  if (focused) [...document.querySelectorAll("#jobs-table a")].find((link) => link.getAttribute("href") === focused)?.focus();
  $("turn").hidden = wanted.length <= JOBS_PER_PAGE;
  // not `disabled`, which would take the focus away from who turns pages with the keyboard
  $("newer").setAttribute("aria-disabled", `${first === 0}`);
  $("older").setAttribute("aria-disabled", `${first + JOBS_PER_PAGE >= wanted.length}`);
  const use = known.use.map((each) => [each.namespace, `${each.runningGPUs}`, `${each.waitingGPUs}`, `$${each.usdPerHour}`, `$${each.usdThisMonth}`]);
  $("use-table").replaceChildren(table("GPUs and dollars by namespace", ["namespace", "GPUs running", "GPUs waiting", "per hour", "this month"], use));
}

function turn(button, jobs) {
  if (button.getAttribute("aria-disabled") === "true") return;
  first += jobs;
  shownJobs();
}

function say(text, isError) {
  if ($("cluster").textContent === text) return;
  $("cluster").textContent = text;
  $("cluster").className = isError ? "error" : "quiet";
}

async function look() {
  const namespace = $("namespace").value.trim();
  const before = JSON.stringify(known);
  let signedOut = false;
  try {
    known = await ask(namespace ? `api/jobs?namespace=${encodeURIComponent(namespace)}` : "api/jobs", shown());
    $("jobs-link").hidden = !known.cluster;
    say(known.cluster, false);
  } catch (error) {
    signedOut = error.status === 401;
    known = signedOut || error.status === 403 ? { cluster: "", jobs: [], use: [] } : known;
    $("jobs-link").hidden = false;
    say(error.status === 403 ? `${error.message}\nYou may be allowed to read a single namespace: enter its name below.` : error.message, true);
  }
  $("sign-in").hidden = !signedOut;
  $("jobs-shown").hidden = signedOut;
  $("sign-out").hidden = signedOut || !token();
  if (!$("jobs").hidden && JSON.stringify(known) !== before) shownJobs();
}

let next;
async function keepLooking() {
  clearTimeout(next);
  const begun = performance.now();
  if (!document.hidden) await look();
  clearTimeout(next);
  next = setTimeout(keepLooking, Math.max(POLL_MS, POLL_SHARE * (performance.now() - begun)));
}

function signIn(event) {
  event.preventDefault();
  const given = $("sign-in").elements.token.value.trim();
  $("sign-in").reset();
  if (!/^[\x21-\x7e]+$/.test(given)) return say("This is not a bearer token: paste one line without spaces.", true);
  sessionStorage.setItem(TOKEN, given);
  keepLooking();
}

function signOut() {
  sessionStorage.removeItem(TOKEN);
  keepLooking();
}

// Pages

function show() {
  const chosen = ["calculator", "claims", "jobs"].find((name) => location.hash === `#${name}`) || "calculator";
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== chosen;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${chosen}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (chosen === "claims") claims();
  if (chosen === "jobs") shownJobs();
}

async function start() {
  window.addEventListener("hashchange", show);
  $("question").addEventListener("input", soon);
  $("question").addEventListener("submit", (event) => event.preventDefault());
  $("filter").addEventListener("input", () => {
    first = 0;
    shownJobs();
  });
  $("namespace").addEventListener("change", keepLooking);
  $("newer").addEventListener("click", () => turn($("newer"), -JOBS_PER_PAGE));
  $("older").addEventListener("click", () => turn($("older"), JOBS_PER_PAGE));
  $("sign-in").addEventListener("submit", signIn);
  $("sign-out").addEventListener("click", signOut);
  show();
  calculate();
  keepLooking();
  const [models, gpus] = await Promise.all([ask("api/models"), ask("api/gpus")]);
  $("models").append(...models.map((each) => element("option", { value: each.name })));
  $("question").elements.gpu.append(...gpus.map((each) => element("option", { value: each.name, textContent: each.name })));
}

start();
