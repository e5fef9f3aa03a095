// The page: reads the API every two seconds, and at once when an event says that something changed.

import { API, ask, bytes, cell, element, show } from "./page.js";
import { setUpPools, showPools } from "./pools.js";

const POLL_MS = 2000;
// Events come in bursts; one reading answers a whole burst.
const BURST_MS = 150;
const ROWS_MAX = 1000;
const INCIDENTS_MAX = 50;
const DIRECTIONS = ["write", "read"];

const count = new Intl.NumberFormat("en");

const read = (path) => ask("GET", path);

async function readList(path) {
  const items = [];
  let after = null;
  do {
    const token = after === null ? "" : `&after=${encodeURIComponent(after)}`;
    const page = await read(`${path}?limit=${ROWS_MAX}${token}`);
    items.push(...page.items);
    after = page.next;
  } while (after !== null && items.length < ROWS_MAX);
  return items;
}

function protection(pi) {
  if (pi.type === 0) {
    return "none";
  }
  const storage = pi.storage_tag_bits > 0 ? `, ${pi.storage_tag_bits}-bit storage tag` : "";
  return `type ${pi.type}, ${pi.guard}${storage}`;
}

function showVolumes(volumes, subsystems) {
  const mapped = new Map();
  for (const subsystem of subsystems) {
    for (const namespace of subsystem.namespaces) {
      const places = mapped.get(namespace.volume) ?? [];
      places.push(`${subsystem.name}/${namespace.nsid}`);
      mapped.set(namespace.volume, places);
    }
  }
  show(
    "volumes",
    volumes.map((volume) => [
      cell(volume.name, "name"),
      cell(volume.pool),
      cell(bytes(volume.size_bytes), "number"),
      cell(bytes(volume.allocated_bytes), "number"),
      cell(volume.block_size, "number"),
      cell(protection(volume.pi)),
      cell((mapped.get(volume.name) ?? []).join(", ") || "—"),
      cell(volume.uuid, "mono"),
    ]),
  );
}

function showHosts(hosts) {
  show(
    "hosts",
    hosts.map((host) => [
      cell(host.name, "name"),
      cell([host.nqn, host.iqn].filter(Boolean).join(" ") || null, "mono"),
      cell(host.sessions.length, "number"),
      cell(host.policy.declared + (host.registered ? "" : " (not registered)")),
      cell(host.policy.observed),
    ]),
  );
}

function errors(direction) {
  const kinds = ["guard", "app_tag", "ref_tag", "storage_tag", "media"];
  return kinds.reduce((sum, kind) => sum + direction[`${kind}_errors`], 0);
}

function counterRow(host, row, direction) {
  const pi = row[direction];
  const failed = errors(pi);
  const number = (value) => cell(count.format(value), "number");
  return [
    cell(host, "name"),
    cell(row.volume),
    cell(direction),
    number(row.io[`${direction}_ops`]),
    cell(bytes(row.io[`${direction}_bytes`]), "number"),
    number(pi.blocks_checked),
    number(pi.blocks_escaped),
    number(pi.blocks_unchecked),
    number(pi.blocks_inserted),
    number(pi.blocks_stripped),
    cell(count.format(failed), failed > 0 ? "number bad" : "number"),
  ];
}

function showCounters(hosts, counters) {
  const rows = hosts.flatMap((host, at) =>
    counters[at].volumes.flatMap((row) => DIRECTIONS.map((direction) => counterRow(host.name, row, direction))),
  );
  show("counters", rows);
}

function showIncidents(incidents) {
  show(
    "incidents",
    incidents.map((incident) => [
      cell(incident.last_time, "mono"),
      cell(count.format(incident.count), "number"),
      cell(incident.host, "name"),
      cell(incident.volume),
      cell(count.format(incident.lba), "number"),
      cell(incident.operation),
      cell(incident.tag),
      cell(incident.expected, "mono"),
      cell(incident.actual, "mono"),
      cell(incident.writer),
      cell(`${incident.verdict} (${incident.confidence})`, "bad"),
    ]),
  );
}

function banner(text) {
  const box = element("banner");
  if (box.textContent !== text) {
    box.textContent = text;
  }
  box.hidden = text === "";
}

async function readiness() {
  const response = await fetch("/readyz");
  if (response.ok) {
    return "";
  }
  const problem = await response.json().catch(() => ({}));
  return problem.detail ?? `not ready (${response.status})`;
}

async function refresh() {
  const [pools, volumes, subsystems, hosts, incidents, trouble] = await Promise.all([
    readList(`${API}/pools`),
    readList(`${API}/volumes`),
    readList(`${API}/subsystems`),
    readList(`${API}/hosts`),
    read(`${API}/incidents?limit=${INCIDENTS_MAX}`),
    readiness(),
  ]);
  const counters = await Promise.all(
    hosts.map((host) =>
      read(`${API}/hosts/${encodeURIComponent(host.name)}/counters`).catch(() => ({ volumes: [] })),
    ),
  );
  showPools(pools);
  showVolumes(volumes, subsystems);
  showHosts(hosts);
  showCounters(hosts, counters);
  showIncidents(incidents.items);
  const sessions = hosts.reduce((sum, host) => sum + host.sessions.length, 0);
  const line = `${volumes.length} volumes, ${hosts.length} hosts, ${sessions} sessions`;
  if (element("state").textContent !== line) {
    element("state").textContent = line;
  }
  banner(trouble);
}

let timer = 0;
let due = Infinity;
let reading = false;
let wanted = POLL_MS;

async function turn() {
  reading = true;
  wanted = POLL_MS;
  due = Infinity;
  try {
    await refresh();
  } catch (error) {
    banner(`The API cannot be read: ${error.message}`);
  }
  reading = false;
  schedule(wanted);
}

// Brings the next reading forward, never back, and never beside one that is under way.
function schedule(pause) {
  if (reading) {
    wanted = Math.min(wanted, pause);
    return;
  }
  const at = performance.now() + pause;
  if (at >= due) {
    return;
  }
  clearTimeout(timer);
  due = at;
  timer = setTimeout(turn, pause);
}

function listen() {
  const events = new EventSource(`${API}/events`);
  for (const kind of ["host", "volume", "pool", "target", "incident", "alarm"]) {
    events.addEventListener(kind, () => schedule(BURST_MS));
  }
}

setUpPools(() => schedule(0));
listen();
schedule(0);
