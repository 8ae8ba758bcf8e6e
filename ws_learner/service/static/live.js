// Follows a run over server-sent events, and renews the list; pages work without it.
"use strict";

const SECONDS = 1000;

async function renew(box, address) {
  const answer = await fetch(address, { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const ticked = new Set([...box.querySelectorAll("input:checked")].map((one) => one.value));
  const places = [...box.querySelectorAll("[id]")].map((one) => [one.id, one.scrollTop]);
  box.innerHTML = await answer.text(); // our own template, which escapes what comes from a run
  for (const one of box.querySelectorAll("input")) one.checked = ticked.has(one.value);
  for (const [id, top] of places) {
    const one = document.getElementById(id);
    if (one) one.scrollTop = top;
  }
  showEnd();
}

function showEnd() {
  const log = document.getElementById("log");
  if (log) log.scrollTop = log.scrollHeight;
}

function follow(box) {
  const source = new EventSource(box.dataset.events);
  let waiting = false;
  const changed = () => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => {
      waiting = false;
      if (!document.hidden) renew(box, box.dataset.live).catch(() => {});
    }, SECONDS);
  };
  for (const name of ["phase", "progress", "state"]) source.addEventListener(name, changed);
  source.addEventListener("end", () => {
    source.close();
    location.reload();
  });
  setInterval(changed, 5 * SECONDS); // the log grows between events, too
}

const live = document.getElementById("live");
if (live && live.dataset.events) follow(live);

const rows = document.getElementById("rows");
if (rows) {
  setInterval(() => {
    if (!document.hidden) renew(rows, rows.dataset.rows).catch(() => {});
  }, 3 * SECONDS);
}

const form = document.getElementById("new");
if (form) {
  form.addEventListener("submit", (event) => {
    setTimeout(() => {
      for (const one of form.querySelectorAll("button")) one.disabled = true;
      if (event.submitter) event.submitter.textContent = "Checking ...";
    }, 0);
  });
}
showEnd();
