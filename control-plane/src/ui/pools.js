// Pools: how full and how well they are; made, imported, exported, deleted.

import { API, ask, bytes, cell, element, show } from "./page.js";

// The thresholds that the appliance tells of, as shares of the capacity.
const FILL_LOW = 0.8;
const FILL_HIGH = 0.9;
const UNITS = { MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };

let shown = "";
let changed = () => {};

// Rows are made anew only when something differs, so that a button keeps the keyboard's focus.
export function showPools(pools) {
  const now = JSON.stringify(pools);
  if (now === shown) {
    return;
  }
  shown = now;
  show(
    "pools",
    pools.map((pool) => [
      cell(pool.name, "name"),
      cell(pool.backing.path ? `${pool.backing.kind} ${pool.backing.path}` : pool.backing.kind),
      cell(bytes(pool.capacity_bytes), "number"),
      fillCell(pool),
      cell(bytes(pool.promised_bytes), "number"),
      healthCell(pool),
      actionsCell(pool),
    ]),
  );
}

function fillCell(pool) {
  const share = pool.capacity_bytes > 0 ? pool.allocated_bytes / pool.capacity_bytes : 0;
  const td = cell("", "number");
  const meter = document.createElement("meter");
  meter.low = FILL_LOW;
  meter.high = FILL_HIGH;
  meter.optimum = 0;
  meter.value = share;
  const text = `${bytes(pool.allocated_bytes)}, ${Math.floor(share * 100)} %`;
  meter.textContent = text;
  meter.ariaLabel = `${pool.name}: ${text} in use`;
  const words = document.createElement("span");
  words.textContent = text;
  words.className = share >= FILL_HIGH ? "bad" : share >= FILL_LOW ? "warn" : "";
  td.append(meter, " ", words);
  return td;
}

function healthCell(pool) {
  const steps = pool.progress && pool.progress.total > 0 ? ` ${pool.progress.done} of ${pool.progress.total}` : "";
  const reason = pool.reason ? `: ${pool.reason}${steps}` : "";
  return cell(pool.health + reason, pool.health === "ok" ? "" : "bad wide");
}

function actionsCell(pool) {
  const td = cell("");
  if (pool.backing.kind !== "memory") {
    td.append(
      button(`Export`, pool, `Close ${pool.name} and let it go with its volumes? It can be imported again.`, () =>
        ask("POST", `${API}/pools/${encodeURIComponent(pool.name)}/export`),
      ),
      " ",
    );
  }
  td.append(
    button(`Delete`, pool, `Destroy the pool ${pool.name}? This cannot be undone.`, () =>
      ask("DELETE", `${API}/pools/${encodeURIComponent(pool.name)}`),
    ),
  );
  return td;
}

function button(text, pool, question, work) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.ariaLabel = `${text} ${pool.name}`;
  made.addEventListener("click", () => {
    if (window.confirm(question)) {
      carryOut(made, `${text} ${pool.name}`, work);
    }
  });
  return made;
}

// Says what becomes of a change, and lets nobody ask for it twice meanwhile.
async function carryOut(control, what, work) {
  const told = element("pool-told");
  control.disabled = true;
  told.className = "";
  told.textContent = `${what}…`;
  try {
    await work();
    told.textContent = `${what}: done`;
    return true;
  } catch (error) {
    told.className = "bad";
    told.textContent = `${what}: ${error.message}`;
    return false;
  } finally {
    control.disabled = false;
    shown = "";
    changed();
  }
}

function field(name) {
  return element(`pool-${name}`);
}

// Shows the fields that the chosen kind has.
function follow() {
  const kind = field("kind").value;
  const lasting = kind !== "memory";
  const imported = lasting && field("import").checked;
  const wanted = { path: lasting, import: lasting, size: kind === "memory" || (kind === "file" && !imported) };
  for (const [name, isWanted] of Object.entries(wanted)) {
    field(name).closest("label").hidden = !isWanted;
    field(name).disabled = !isWanted;
  }
  field("unit").disabled = !wanted.size;
}

function order() {
  const kind = field("kind").value;
  const backing = { kind };
  if (!field("size").disabled) {
    backing.size_bytes = Math.round(Number(field("size").value) * UNITS[field("unit").value]);
  }
  if (kind !== "memory") {
    backing.path = field("path").value;
    backing.import = field("import").checked;
  }
  return { name: field("name").value, backing, overcommit: Number(field("overcommit").value) };
}

// Makes the form work; `refresh` is called after each change.
export function setUpPools(refresh) {
  changed = refresh;
  const form = element("pool-form");
  form.addEventListener("input", follow);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const wanted = order();
    const verb = wanted.backing.import ? "Import" : "Create";
    const done = await carryOut(element("pool-submit"), `${verb} ${wanted.name}`, () =>
      ask("POST", `${API}/pools`, wanted),
    );
    if (done) {
      form.reset();
      follow();
    }
  });
  follow();
}
