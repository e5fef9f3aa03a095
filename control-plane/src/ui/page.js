// What all parts of the page use: asking the API, cells and rows.

export const API = "/api/v1";

export const element = (id) => document.getElementById(id);

// The answer's body, or an error in the API's own words (RFC 9457).
export async function ask(method, path, body) {
  const request = { method, headers: { accept: "application/json" } };
  if (body !== undefined) {
    request.headers["content-type"] = "application/json";
    request.body = JSON.stringify(body);
  }
  const response = await fetch(path, request);
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Error(problem.detail ?? `${path} answered ${response.status}`);
  }
  return response.status === 204 ? null : response.json();
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  let rest = value;
  while (rest >= 1024 && unit < units.length - 1) {
    rest /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || Number.isInteger(rest) ? 0 : 1;
  return `${rest.toFixed(digits)} ${units[unit]}`;
}

export function cell(value, kind = "") {
  const td = document.createElement("td");
  td.textContent = value ?? "—";
  if (kind) {
    td.className = kind;
  }
  return td;
}

export function show(id, rows) {
  const body = element(id);
  if (rows.length === 0) {
    const nothing = cell("none", "empty");
    nothing.colSpan = body.closest("table").querySelectorAll("th").length;
    rows = [[nothing]];
  }
  const shown = rows.map((cells) => {
    const tr = document.createElement("tr");
    tr.append(...cells);
    return tr;
  });
  body.replaceChildren(...shown);
}
