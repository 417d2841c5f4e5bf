// The page of `finetune serve-ui`. It asks the server and shows the answers; it computes nothing but widths.
"use strict";

const COLOURS = ["#3b82f6", "#06b6d4", "#d946ef", "#eab308", "#22c55e", "#ef4444", "#94a3b8"];
const WAIT_MS = 250;
const POLL_MS = 3000;
const $ = (id) => document.getElementById(id);

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function table(titles, rows) {
  const head = element("tr", {}, ...titles.map((title) => element("th", { scope: "col", textContent: title })));
  const body = rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", {}, cell))));
  return element("div", { className: "scroll", tabIndex: 0 }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
}

async function ask(address, question) {
  const options = question && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(question) };
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Error("The server does not answer: is `finetune serve-ui` still running?");
  }
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
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
    ...(fits.length ? [element("h3", { textContent: "Alternatives" }), table(["plan", "cost", "time"], fits.map((one) => [one.summary, one.cost, one.time]))] : []),
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
    shown = shownPlan(await ask("/api/plan", question()));
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
    const found = await ask("/api/claims");
    $("claims-tables").replaceChildren(
      element("h3", { textContent: "Memory" }),
      table(["who", "claim", "ours, GiB per GPU", "why it differs"], found.memory.map((row) => [row.who, row.claim, row.ours, row.why])),
      element("h3", { textContent: "Hours and dollars" }),
      table(["who", "claim", "by its own speed", "ours", "why it differs"], found.time.map((row) => [row.who, row.claim, row.byItsOwnSpeed, row.ours, row.why])),
    );
  } catch (error) {
    claimed = false;
    $("claims-tables").replaceChildren(element("p", { className: "error", textContent: error.message }));
  }
}

// Jobs

const COLUMNS = ["namespace", "name", "phase", "reason", "model", "plan", "progress", "loss", "cost", "age"];
let known = { cluster: "", jobs: [], use: [] };

function shownJobs() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = known.jobs.filter((job) => words.every((word) => COLUMNS.some((column) => job[column].toLowerCase().includes(word))));
  const rows = wanted.map((job) =>
    COLUMNS.map((column) =>
      column === "name" ? element("a", { href: `/jobs/${encodeURIComponent(job.namespace)}/${encodeURIComponent(job.name)}`, textContent: job.name }) : job[column],
    ),
  );
  const count = element("p", { className: "quiet", textContent: `${wanted.length} of ${known.jobs.length} jobs` });
  $("jobs-table").replaceChildren(count, ...(rows.length ? [table(COLUMNS, rows)] : []));
  const use = known.use.map((each) => [each.namespace, `${each.runningGPUs}`, `${each.waitingGPUs}`, `$${each.usdPerHour}`, `$${each.usdThisMonth}`]);
  $("use-table").replaceChildren(table(["namespace", "GPUs running", "GPUs waiting", "per hour", "this month"], use));
}

async function look() {
  try {
    known = await ask("/api/jobs");
    $("jobs-link").hidden = !known.cluster;
    $("cluster").textContent = known.cluster;
    $("cluster").className = "quiet";
  } catch (error) {
    $("jobs-link").hidden = false;
    $("cluster").textContent = error.message;
    $("cluster").className = "error";
  }
  if (!$("jobs").hidden) shownJobs();
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
  $("filter").addEventListener("input", shownJobs);
  show();
  calculate();
  look();
  setInterval(() => document.hidden || look(), POLL_MS);
  const [models, gpus] = await Promise.all([ask("/api/models"), ask("/api/gpus")]);
  $("models").append(...models.map((each) => element("option", { value: each.name })));
  $("question").elements.gpu.append(...gpus.map((each) => element("option", { value: each.name, textContent: each.name })));
}

start();
